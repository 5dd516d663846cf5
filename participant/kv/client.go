// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// ErrKeyNotFound is jetstream.ErrKeyNotFound: there is no value.
var ErrKeyNotFound = jetstream.ErrKeyNotFound

// ClientConfig is for NewClient. The zero ClientConfig is what most want.
type ClientConfig struct {
	// Participant is the name of the participant that does the transactions; default "kv".
	Participant string
}

// Client runs transactions. Its methods may be called by many goroutines at once. See NewClient.
type Client struct {
	client *assent.Client
	nc     *nats.Conn
	name   string
	// directs is how keys are read at first. What met another transaction is read from the leaders when it is tried again.
	directs directs
}

// NewClient gives a client that reads by a connection and submits by a client of Assent's. Both stay the caller's. The connection needs
// the permission to publish to $JS.API.STREAM.MSG.GET.KV_<bucket> for the buckets that it reads, and should have that to publish to
// $JS.API.DIRECT.GET.KV_<bucket>.>, by which reads cost less: without it, one read a minute and bucket waits for half a second.
func NewClient(client *assent.Client, nc *nats.Conn, cfg ClientConfig) (*Client, error) {
	if cfg.Participant == "" {
		cfg.Participant = DefaultName
	}
	if !messages.ValidName(cfg.Participant) {
		return nil, fmt.Errorf("kv: Participant %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Participant, messages.MaxName)
	}
	if client == nil || nc == nil {
		return nil, errors.New("kv: a client and a connection are needed")
	}
	return &Client{client: client, nc: nc, name: cfg.Participant}, nil
}

// Txn runs a transaction: it calls f, and commits what f has read and written. When it meets another transaction it calls f again,
// with a new Tx (assent.Client.Do, whose errors and options it has). f should have no effects but through tx, and not keep it: it may be called
// several times, may see values of different moments, and what it did is undone then.
//
// An error of f ends the transaction, of which nothing happens, and is returned, if what f has read was true: it is validated as if
// nothing had been written, and f called again if it was not. So "not enough money" is as serializable as a transfer. (If that cannot be
// found out, f's error is returned along with why.)
//
// A transaction that only reads is validated as well. One that does nothing is not submitted.
//
// A transaction names at most 1024 keys, and is at most 256 KiB with its values (in base64).
func (c *Client) Txn(ctx context.Context, f func(tx *Tx) error, options ...assent.TxOption) error {
	idle, again := false, false
	err := c.client.Do(ctx, func(outer *assent.Tx) error {
		tx := c.Begin(outer)
		tx.newest, again = again, true
		if err := f(tx); err != nil {
			return c.verify(ctx, tx, err)
		}
		idle = !tx.Finish() && !tx.others
		if idle {
			return errIdle
		}
		return nil
	}, options...)
	if idle && errors.Is(err, errIdle) {
		return nil
	}
	return err
}

// verify gives the error of a function if what it has read was true, and else that of the conflict.
func (c *Client) verify(ctx context.Context, tx *Tx, failed error) error {
	reads := tx.reads()
	if len(reads) == 0 || ctx.Err() != nil || errors.Is(failed, assent.ErrConflict) {
		return failed
	}
	check := c.client.Begin()
	Enlist(check, c.name, Operation{Reads: reads})
	switch err := check.Commit(ctx); {
	case err == nil:
		return failed
	case errors.Is(err, assent.ErrConflict):
		return err
	default:
		return fmt.Errorf("%w (and whether what it has read was up to date is not known: %w)", failed, err)
	}
}

// reads are what the transaction has read of the buckets.
func (tx *Tx) reads() (reads []Read) {
	for _, r := range tx.order {
		if k := tx.known[r]; k.read {
			reads = append(reads, Read{r.bucket, r.key, k.revision})
		}
	}
	return reads
}

// errIdle ends a transaction that does nothing.
var errIdle = errors.New("nothing to do")

// Begin gives the part of a bigger transaction that reads and writes buckets. Call Finish when it is complete, and then commit outer (in
// the function of assent.Client.Do: return from it). It conflicts with other transactions as any does: use Do, or read anew.
func (c *Client) Begin(outer *assent.Tx) *Tx {
	return &Tx{client: c, outer: outer, known: make(map[ref]*known)}
}

// Tx reads and writes keys of buckets in one transaction. It belongs to one goroutine.
type Tx struct {
	client *Client
	outer  *assent.Tx
	known  map[ref]*known
	order  []ref
	others bool
	// newest: reads are the leaders', since those of an attempt before were not up to date.
	newest bool
}

// known is what a transaction knows of a key.
type known struct {
	found
	read bool
	// written: Put or Delete was called last, with a value or deleted.
	written, deleted bool
	value            []byte
}

// Entry is a value, and what is known of it.
type Entry struct {
	Bucket, Key string
	Value       []byte
	// Revision is the value's in its bucket, 0 if the transaction wrote it itself.
	Revision uint64
	// Created is when it was stored, by the server's clock; zero if the transaction wrote it itself.
	Created time.Time
}

// Get gives a key's value: the one that the transaction has written, or the one that it read before, or else what the bucket has now.
// ErrKeyNotFound: it has none; that, too, is validated. Other errors: ErrInvalid, ErrNoBucket, or why the server did not answer; f
// should return them.
func (tx *Tx) Get(ctx context.Context, bucket, key string) (Entry, error) {
	r := ref{bucket, key}
	k, err := tx.key(r)
	if err != nil {
		return Entry{}, err
	}
	if !k.written && !k.read {
		if k.found, err = tx.last(ctx, r); err != nil {
			return Entry{}, fmt.Errorf("kv: %w", err)
		}
		k.read = true
	}
	e := Entry{Bucket: bucket, Key: key}
	switch {
	case k.written && !k.deleted:
		e.Value = bytes.Clone(k.value)
	case !k.written && k.revision > 0 && !k.gone:
		e.Value, e.Revision, e.Created = bytes.Clone(k.found.value), k.revision, k.created
	default:
		return Entry{}, fmt.Errorf("kv: key %s: %w", r, ErrKeyNotFound)
	}
	return e, nil
}

func (tx *Tx) last(ctx context.Context, r ref) (found, error) {
	if tx.newest {
		return last(ctx, tx.client.nc, r)
	}
	return tx.client.directs.read(ctx, tx.client.nc, r)
}

// Put writes a value, when the transaction commits. If the key was not read, whatever it has then is overwritten.
func (tx *Tx) Put(bucket, key string, value []byte) error {
	k, err := tx.key(ref{bucket, key})
	if err == nil {
		k.written, k.deleted, k.value = true, false, bytes.Clone(value)
	}
	return err
}

// Delete deletes a value, when the transaction commits: a marker takes its place, as in jetstream.KeyValue.Delete. What is not there
// stays so.
func (tx *Tx) Delete(bucket, key string) error {
	k, err := tx.key(ref{bucket, key})
	if err == nil {
		k.written, k.deleted, k.value = true, true, nil
	}
	return err
}

func (tx *Tx) key(r ref) (*known, error) {
	k := tx.known[r]
	if k == nil {
		if err := checkNames(r.bucket, r.key); err != nil {
			return nil, fmt.Errorf("kv: %w", err)
		}
		k = &known{}
		tx.known[r] = k
		tx.order = append(tx.order, r)
	}
	return k, nil
}

// Enlist adds an operation for another participant to the transaction: assent.Tx.Enlist.
func (tx *Tx) Enlist(participant string, payload any, options ...assent.OpOption) {
	tx.others = true
	tx.outer.Enlist(participant, payload, options...)
}

// Finish adds what was read and written to the transaction that Begin was given; false if that is nothing. Txn does it itself.
func (tx *Tx) Finish() bool {
	var op Operation
	for _, r := range tx.order {
		k := tx.known[r]
		switch {
		case k.written:
			w := Write{Bucket: r.bucket, Key: r.key, Value: k.value, Delete: k.deleted}
			if k.read {
				w.Revision = &k.revision
			}
			op.Writes = append(op.Writes, w)
		case k.read:
			op.Reads = append(op.Reads, Read{r.bucket, r.key, k.revision})
		}
	}
	if len(op.Reads)+len(op.Writes) == 0 {
		return false
	}
	Enlist(tx.outer, tx.client.name, op)
	return true
}

// Enlist adds an operation to a transaction, for a participant of this kind, and names the keys that it locks. What is wrong
// with it is Commit's error.
func Enlist(tx *assent.Tx, participant string, op Operation) {
	exclusive, shared := op.keys()
	var options []assent.OpOption
	if len(exclusive) > 0 {
		options = append(options, assent.Keys(exclusive...))
	}
	if len(shared) > 0 {
		options = append(options, assent.SharedKeys(shared...))
	}
	tx.Enlist(participant, encode(op), options...)
}
