// SPDX-License-Identifier: Apache-2.0

// Package assent makes an operation that spans several services atomic: every participant applies it, or none does. It
// is the client of a coordinator (the command `assent serve`, or package coordinator) over NATS.
//
//	client, err := assent.New(nc, assent.Config{})
//	...
//	tx := client.Begin()
//	tx.Enlist("bank-a", Transfer{From: "alice", Cents: -500})
//	tx.Enlist("bank-b", Transfer{To: "bob", Cents: 500})
//	tx.EnlistKey("accounts", "alice", Debit{Cents: 5}) // whichever node of the group owns the key
//	err = tx.Commit(ctx) // nil: committed. ErrAborted: nothing happened. ErrUnknown: ask again with tx.ID().
//
// Participants are services that use package participant, or speak the messages of docs/protocol.md.
package assent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
)

// ID identifies a transaction: a UUIDv7.
type ID = messages.ID

// Outcome is how a transaction ended: Committed, Aborted, or Undecided while it is open.
type Outcome = messages.Outcome

// The outcomes.
const (
	Undecided = messages.Undecided
	Committed = messages.Committed
	Aborted   = messages.Aborted
)

// NewID mints an id; see WithID.
func NewID() ID { return messages.NewID() }

// ParseID reads the canonical text of an id.
func ParseID(s string) (ID, error) { return messages.ParseID(s) }

// Config is for New. The zero Config is what most applications want.
type Config struct {
	// Prefix is the first token (or tokens) of every subject; default "assent". It must be the coordinator's.
	Prefix string
	// Patience is how long Commit, Wait and Outcome go on when their context has no deadline: for Commit after the
	// transaction's timeout, for the others altogether; default 30 s.
	Patience time.Duration
	// Locks says where Tx.Lock takes its leases: the bucket, and by its TTL how long they outlive this process. The zero Config
	// is that of package locks; its Log is this one's unless it has another.
	Locks locks.Config
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Client submits transactions. Its methods may be called by many goroutines at once; what they submit meanwhile shares
// messages. See New.
type Client struct {
	cfg      Config
	nc       *nats.Conn
	subjects messages.Subjects
	log      *logrus.Entry
	inbox    string
	answers  *nats.Subscription
	status   chan nats.Status
	stop     context.CancelFunc
	closing  <-chan struct{} // closed by stop
	stopped  chan struct{}
	submits  *groupcommit.Batcher[struct{}]
	leases   *leases

	mu      sync.Mutex
	shards  int // 0 until a coordinator has said
	calls   map[ID][]*call
	closed  bool
	ring    resolver         // nil until a transaction is routed
	decoder messages.Decoder // of the answers; mu guards it
}

// New gives a client on a connection, which stays the caller's and must outlive it. Nothing is sent yet. Close it when it
// is no longer used.
func New(nc *nats.Conn, cfg Config) (*Client, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return nil, fmt.Errorf("assent: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	}
	if cfg.Patience < 0 {
		return nil, errors.New("assent: Patience cannot be negative")
	}
	if cfg.Patience == 0 {
		cfg.Patience = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	c := &Client{
		cfg: cfg, nc: nc, subjects: messages.Subjects{Prefix: cfg.Prefix}, log: cfg.Log.WithField("component", "assent-client"),
		inbox: nc.NewInbox(), stopped: make(chan struct{}), calls: make(map[ID][]*call),
	}
	if cfg.Locks.Log == nil {
		cfg.Locks.Log = cfg.Log
	}
	c.leases = newLeases(nc, cfg.Locks, c.log)
	var err error
	if c.answers, err = nc.Subscribe(c.inbox, c.onAnswers); err != nil {
		return nil, fmt.Errorf("assent: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	c.stop, c.closing = stop, ctx.Done()
	c.submits = groupcommit.New(ctx, groupcommit.Config[struct{}]{Send: c.send, MaxBytes: groupcommit.MaxBytes(nc)})
	c.status = nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	go c.keepAsking(ctx)
	return c, nil
}

// Close ends the client: calls that wait return ErrUnknown, or the ErrClosed of one that comes later. Transactions that
// were submitted go on without it; what they have locked is given back, which takes a round trip, at most 5 s.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	ring := c.ring
	c.mu.Unlock()
	c.endAll(ErrClosed)
	c.stop()
	<-c.stopped
	c.leases.close()
	if ring != nil {
		ring.Close()
	}
	c.nc.RemoveStatusListener(c.status)
	if err := c.answers.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		c.log.WithError(err).Debug("unsubscribing")
	}
}

// Outcome tells what is known of a transaction now: Undecided while it is open, ErrNotFound when neither the
// coordinator nor its history knows it. One that was tried again because keys had moved is followed from attempt to
// attempt; while the next one may still be submitted (until 70 s after the id's time) it is Undecided, then Aborted.
func (c *Client) Outcome(ctx context.Context, id ID) (Outcome, error) {
	return c.ask(ctx, glimpses, id)
}

// Wait waits for a transaction's outcome, which is that of its last attempt (see Outcome). Cancelling the context stops
// the waiting, never the transaction; the error is then ErrUnknown. ErrNotFound: neither the coordinator nor its history
// knows the transaction.
func (c *Client) Wait(ctx context.Context, id ID) (Outcome, error) {
	return c.ask(ctx, waits, id)
}

func (c *Client) ask(ctx context.Context, kind callKind, id ID) (Outcome, error) {
	if fault := badID(id); fault != "" {
		return Undecided, &InvalidError{Tx: id, Field: "tx", Message: fault}
	}
	ctx, cancel := within(ctx, c.cfg.Patience)
	defer cancel()
	answer, err := c.follow(ctx, kind, &chain{first: id, last: id})
	if err != nil {
		return Undecided, err
	}
	switch answer.Error {
	case "":
		return answer.Outcome, nil
	case messages.CodeUndecided:
		return Undecided, nil
	case messages.CodeNotFound:
		return Undecided, fmt.Errorf("%w: %s: %s", ErrNotFound, id, answer.Message)
	default:
		return Undecided, refusal(&answer)
	}
}
