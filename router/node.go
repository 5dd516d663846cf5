// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
	"github.com/assent-tx/assent/router/ring"
)

// NodeConfig says which node of which group a process is. Group and Name are required.
type NodeConfig struct {
	Config
	// Group and Name are the names of the group and of the node, 1 to 64 of [A-Za-z0-9_-]. One process at a time acts for a
	// node; others of its name wait until its session has ended. A participant that is a node has the node's name.
	Group, Name string
	// Weight is the node's share, relative to that of others, when it joins for the first time: 1 to 1000; default 1. In the
	// group already, it keeps the weight that it has there.
	Weight int
	// Zone is where it is, 1 to 64 of [A-Za-z0-9_-], "" for nowhere: copies go to different zones (ring.Owners).
	Zone string
	// Subject is where it takes requests (Serve); default <Prefix>.node.<Group>.<Name>.
	Subject string
	// Settings are those of the group, if it has to be made. A group that is there must have the same kind and number of
	// partitions, as far as they are given here.
	Settings Settings
	// Hooks are called when partitions come and go; nil: there is nothing to do.
	Hooks Hooks
	// TTL is how long the node's session lives without a renewal, 1 s to 1 h; default 5 s. It is how long the node can be cut off
	// from NATS and still act, and how long others take to notice that it died.
	TTL time.Duration
	// HookTimeout ends the context of a hook; default 30 s.
	HookTimeout time.Duration
	// DrainTimeout is how long Run may take, after its context ended, for what is in hand and, in kind HandOff, for
	// handing over what the node owns; default 25 s.
	DrainTimeout time.Duration
	// Workers is how many requests are handled at once (Serve), 1 to 4096; default 64.
	Workers int
}

const (
	defaultNodeTTL      = 5 * time.Second
	defaultHookTimeout  = 30 * time.Second
	defaultDrainTimeout = 25 * time.Second
	defaultWorkers      = 64
	maxWorkers          = 4096
)

func (cfg NodeConfig) withDefaults() (NodeConfig, error) {
	var err error
	if cfg.Config, err = cfg.Config.withDefaults(); err != nil {
		return cfg, err
	}
	if err := checkName("group", cfg.Group); err != nil {
		return cfg, err
	}
	if err := checkName("node", cfg.Name); err != nil {
		return cfg, err
	}
	if cfg.Weight == 0 {
		cfg.Weight = 1
	}
	setDefault(&cfg.TTL, defaultNodeTTL)
	setDefault(&cfg.HookTimeout, defaultHookTimeout)
	setDefault(&cfg.DrainTimeout, defaultDrainTimeout)
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers
	}
	return cfg, cfg.check()
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// check holds what is left against its bounds.
func (cfg *NodeConfig) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("router: %w: node %s of group %s: %s", ErrInvalid, cfg.Name, cfg.Group, fmt.Sprintf(format, args...))
	}
	switch {
	case cfg.Weight < 1 || cfg.Weight > ring.MaxWeight:
		return invalid("Weight %d: want 1 to %d", cfg.Weight, ring.MaxWeight)
	case cfg.TTL < time.Second || cfg.TTL > time.Hour:
		return invalid("TTL %v: want 1s to 1h", cfg.TTL)
	case cfg.HookTimeout < 0 || cfg.DrainTimeout < 0:
		return invalid("HookTimeout and DrainTimeout cannot be negative")
	case cfg.Workers < 1 || cfg.Workers > maxWorkers:
		return invalid("Workers %d: want 1 to %d", cfg.Workers, maxWorkers)
	}
	if _, err := handoff.New(cfg.Group, 1, cfg.Settings.internal()); err != nil {
		return invalid("Settings: %v", err)
	}
	if err := handoff.CheckPlace(cfg.Weight, cfg.Zone, cfg.Subject); err != nil {
		return invalid("%v", err)
	}
	return nil
}

func (cfg *NodeConfig) subject() string {
	if cfg.Subject != "" {
		return cfg.Subject
	}
	return cfg.names().nodeSubject(cfg.Group, cfg.Name)
}

// Node is a process's membership in a group: it acts for the keys whose partitions the node owns, while it owns them. It is
// safe for concurrent use. See NewNode.
type Node struct {
	cfg   NodeConfig
	store *store
	log   *logrus.Entry
	begun atomic.Bool
	ready chan struct{}
	// now is what Enter looks at.
	now    atomic.Pointer[stand]
	claims claims
	events events
	// stale has one who has seen a newer ring than this node's.
	stale   chan struct{}
	handler RequestHandler
	again   time.Duration // announceAgain
	gather  time.Duration // gatherTime
	// stay is pause, for linger.
	stay func(ctx context.Context, d time.Duration) bool
}

// stand is what a node may do at a time. It never changes; its gates do.
type stand struct {
	// record is the newest that the node goes by; nil before the first. gone: it was deleted since.
	record *handoff.Record
	gone   bool
	// gates are of the incarnation of which work may be in hand: the record's, or of the group that was there before.
	gates *gates
	// term is the session in which the gates are opened; nil when there is none.
	term *term
}

// NewNode gives a node on a connection, which stays the caller's, must outlive Run and should reconnect for ever. It checks
// cfg (ErrInvalid); nothing is sent yet. A participant of the node is made before Run is called.
func NewNode(nc *nats.Conn, cfg NodeConfig) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s, err := newStore(nc, cfg.Config)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, store: s, log: cfg.Log.WithField("group", cfg.Group).WithField("node", cfg.Name), ready: make(chan struct{}),
		stale: make(chan struct{}, 1), again: announceAgain, gather: gatherTime, stay: streams.Pause,
	}
	n.claims.init()
	n.events.init()
	n.now.Store(&stand{})
	return n, nil
}

// Ready is closed once the node is in the group's ring and acts for all that it owns.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Enter lets work for a key begin, by a ring that the caller has seen: its incarnation and epoch, 0 and 0 if it has seen none.
// Leave ends the work; it must be called exactly once. In between the key's partition is not handed over to another node: but
// a session can be lost at any time, and work that takes long should look at Enter again, or be fenced (Move.Token).
//
// The error is a *WrongOwnerError when the node does not own the key or is handing it over, and an ErrNotReady when it owns it
// but does not act for it yet, has no session just now, or knows an older ring than the caller does (which it then reads). Nothing
// was begun; the second is worth another try soon. It costs some tens of ns, and waits for nothing.
func (n *Node) Enter(key string, incarnation, epoch uint64) (leave func(), err error) {
	g, _, err := n.enter(key, incarnation, epoch)
	if err != nil {
		return nil, err
	}
	return g.leave, nil
}

// enter is Enter, and gives the gate and by what it was passed.
func (n *Node) enter(key string, incarnation, epoch uint64) (*gate, *stand, error) {
	s := n.now.Load()
	if s.knows(incarnation, epoch) {
		g := &s.gates.all[ring.PartitionOf(ring.Hash(key), len(s.gates.all))]
		if g.enter() {
			// Looked at after the gate: when the session is lost in between, this is too late to enter.
			if s.term.err() == nil {
				return g, s, nil
			}
			g.leave()
		}
	}
	return nil, nil, n.refuse(key, incarnation, epoch)
}

// knows tells whether the gates are those of a ring that is as new as a caller's, and of its incarnation.
func (s *stand) knows(incarnation, epoch uint64) bool {
	if s.record == nil || s.gone || s.gates == nil || s.gates.incarnation != s.record.Incarnation {
		return false
	}
	return incarnation == s.record.Incarnation && epoch <= s.record.Epoch || incarnation == 0
}

// refuse says why work cannot begin.
func (n *Node) refuse(key string, incarnation, epoch uint64) error {
	s := n.now.Load()
	r := s.record
	switch {
	case r == nil:
		return n.notReady("it has not read its ring yet")
	case newer(incarnation, epoch, r.Incarnation, r.Epoch):
		n.refresh()
		return n.notReady("its ring is of epoch %d, older than the caller's of %d; it is reading it", r.Epoch, epoch)
	}
	wrong := &WrongOwnerError{Group: n.cfg.Group, Key: key, Node: n.cfg.Name, Incarnation: r.Incarnation, Epoch: r.Epoch}
	if s.gone || incarnation != 0 && incarnation != r.Incarnation {
		return wrong
	}
	p := r.Ring().Partition(key)
	wrong.Owner = r.Owner(p)
	switch {
	case wrong.Owner != n.cfg.Name:
		return wrong
	case r.Since(p) != 0:
		wrong.Owner, wrong.Moving = r.Target(p), true
		return wrong
	case s.term.err() != nil:
		return n.notReady("it has no session: %v", s.term.err())
	case s.gates == nil || s.gates.incarnation != r.Incarnation:
		return n.notReady("work of the group that was there before is still in hand")
	case r.Node(n.cfg.Name).Session != s.term.session.ID():
		return n.notReady("the ring does not name its session yet")
	default:
		return n.notReady("it is acquiring the partition %d", p)
	}
}

// notReadyError says why a node cannot act just now. It is an ErrNotReady.
type notReadyError struct{ node, group, reason string }

func (e *notReadyError) Error() string {
	return fmt.Sprintf("router: %v: %s of group %s: %s", ErrNotReady, e.node, e.group, e.reason)
}

func (e *notReadyError) Is(target error) bool { return target == ErrNotReady }

func (n *Node) notReady(format string, args ...any) error {
	return &notReadyError{n.cfg.Name, n.cfg.Group, fmt.Sprintf(format, args...)}
}

// refresh has the ring read soon.
func (n *Node) refresh() {
	select {
	case n.stale <- struct{}{}:
	default:
	}
}

// errNoTerm is of a node that has no session.
var errNoTerm = errors.New("one is being opened")
