// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// nodeRun is what the goroutine of Run owns: the Holder, which decides, and what carries its steps out. Whatever takes
// time has a goroutine of its own and ends in an event.
type nodeRun struct {
	n        *Node
	h        *handoff.Holder
	follower *follower
	gates    *gates
	term     *term // nil while there is none
	// recalling is what the Holder was told of claims.recalling.
	recalling bool
	presence  presence
	hooks     hooks
	leaving   leaving
	// gone: the group was deleted. making: it is being made anew.
	gone, making bool
	// named: a record has named one of its sessions. isReady: Ready is closed.
	named, isReady bool
	failed         error
	// background are the hooks that run and the writes under way.
	background sync.WaitGroup
	// work is the context of those that are not of a term; stop ends it.
	work context.Context //nolint:containedctx // the life of what Run started, which no call's context bounds
	stop context.CancelFunc
}

// announceAgain is after how long without being named by a record a node says again that it is there.
const announceAgain = 10 * time.Second

// Run acts for the node until ctx ends, then leaves in order (NodeConfig.DrainTimeout): in kind HandOff it hands over what it
// owns, in kind Instant it only says that it goes, in kind Data it keeps what it owns for the process that comes after it. In
// every kind it lets what is in hand end, and then its session. A participant of the node goes on running until Run has
// returned: a branch that is prepared and not settled keeps its partitions from being handed over.
// When it has handed everything over, a node that has one stays for a quarter of its TTL, a second at most, and answers those who
// routed by an older ring that their keys have moved.
//
// It makes the group if there is none, waits for NATS, and for another process of the node to end, and outlives every
// disconnection; when its session is lost it acts for nothing until it has another one and the ring names that.
//
// The error is nil when it left in order. Otherwise it is ErrInvalid when the group has another kind or number of partitions
// than NodeConfig.Settings say; ErrSettings when the bucket of the rings or of the sessions was changed; ErrRecord or
// ErrNewerRecord when the group's record cannot be read at the start; nats.ErrConnectionClosed; or ErrNotDrained. It must be called once.
func (n *Node) Run(ctx context.Context) error {
	if n.begun.Swap(true) {
		return fmt.Errorf("router: %w: Run of node %s was called twice: make another Node", ErrInvalid, n.cfg.Name)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	f, err := n.begin(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it had begun
		}
		return err
	}
	defer f.close()
	r := &nodeRun{n: n, h: handoff.NewHolder(n.cfg.Name), follower: f, work: work, stop: stop, hooks: hooks{failures: make(map[int]int)}}
	requests, err := n.listen()
	if err != nil {
		return err
	}
	terms, endTerm := context.WithCancel(context.WithoutCancel(ctx))
	defer endTerm()
	var around sync.WaitGroup
	around.Go(func() { n.keepTerm(terms) })
	around.Go(func() { n.reread(work, f) })
	r.loop(ctx)
	err = r.end(requests)
	endTerm()
	around.Wait()
	return err
}

// begin makes sure that there is the group, and reads its record.
func (n *Node) begin(ctx context.Context) (*follower, error) {
	for {
		if err := n.makeGroup(ctx); err != nil {
			return nil, err
		}
		f, err := follow(n.store, n.cfg.Group)
		if err != nil {
			return nil, err
		}
		for f.record() == nil {
			err := f.refresh(ctx)
			if err != nil && (ctx.Err() != nil || n.store.nc.IsClosed() || errors.Is(err, ErrNoGroup) || forGood(err)) {
				break
			}
		}
		if _, err := f.current(); err == nil {
			return f, nil
		}
		f.close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// makeGroup makes the group, or looks whether the one that is there is as it is wanted. It goes on until it is answered.
func (n *Node) makeGroup(ctx context.Context) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := n.tryMakeGroup(ctx)
		if err == nil || forGood(err) || ctx.Err() != nil {
			return err
		}
		if n.store.nc.IsClosed() {
			return n.closed()
		}
		n.log.WithError(err).Warn("the group is not to be had yet; trying on")
		streams.Pause(ctx, wait)
	}
}

// forGood tells whether trying again is of no use.
func forGood(err error) bool {
	for _, reason := range []error{ErrInvalid, ErrSettings, ErrRecord, ErrNewerRecord, nats.ErrConnectionClosed} {
		if errors.Is(err, reason) {
			return true
		}
	}
	return false
}

func (n *Node) closed() error {
	return fmt.Errorf("router: node %s of group %s: %w: it must outlive Run", n.cfg.Name, n.cfg.Group, nats.ErrConnectionClosed)
}

// tryMakeGroup looks first: where the group is there, a node needs no permission to make anything.
func (n *Node) tryMakeGroup(ctx context.Context) error {
	v, err := n.store.find(ctx, n.cfg.Group)
	if errors.Is(err, ErrNoGroup) {
		if err := n.store.open(ctx); err != nil {
			return err
		}
		if v, err = n.store.create(ctx, n.cfg.Group, n.cfg.Settings.internal()); err == nil {
			n.log.WithField("partitions", v.record.Partitions).WithField("kind", v.record.Kind).Info("the group was made")
		} else if errors.Is(err, ErrExists) { // by another node, at the same moment
			v, err = n.store.find(ctx, n.cfg.Group)
		}
	}
	if err != nil {
		return err
	}
	return n.suits(v.record)
}

// suits holds a group against what the node was told of it.
func (n *Node) suits(r *handoff.Record) error {
	want := n.cfg.Settings
	differs := func(what string, have, want any) error {
		return fmt.Errorf("router: %w: group %s has %s %v, NodeConfig.Settings of node %s say %v: that never changes; give the node the same, or "+
			"delete the group and let it be made anew", ErrInvalid, r.Group, what, have, n.cfg.Name, want)
	}
	switch {
	case want.Kind != "" && handoff.Kind(want.Kind) != r.Kind:
		return differs("kind", r.Kind, want.Kind)
	case want.Partitions != 0 && want.Partitions != r.Partitions:
		return differs("Partitions", r.Partitions, want.Partitions)
	}
	return nil
}

// reread reads the ring again when somebody has seen a newer one.
func (n *Node) reread(ctx context.Context, f *follower) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.stale:
		}
		if err := f.refresh(ctx); err != nil && ctx.Err() == nil {
			n.log.WithError(err).Debug("a caller knows a newer ring, which could not be read yet")
		}
		streams.Pause(ctx, streams.AttemptPause) // a caller may claim to have seen anything
	}
}

// loop does what there is to do, until the node has left or must end.
func (r *nodeRun) loop(ctx context.Context) {
	closed := r.n.store.nc.StatusChanged(nats.CLOSED)
	defer r.n.store.nc.RemoveStatusListener(closed)
	again := time.NewTicker(r.n.again)
	defer again.Stop()
	asked := ctx.Done()
	changed := r.follower.changed()
	r.do((*nodeRun).recall)
	r.do((*nodeRun).ring)
	for r.failed == nil && !r.leaving.over(r) {
		select {
		case <-r.n.events.wake:
			for _, event := range r.n.events.take() {
				r.do(event)
			}
		case <-changed:
			changed = r.follower.changed()
			r.do((*nodeRun).ring)
		case <-asked:
			asked = nil
			r.do((*nodeRun).leave)
		case <-r.leaving.late():
			return
		case <-again.C:
			r.do(func(r *nodeRun) {
				if !r.h.Named() {
					r.presence.want(true)
				}
			})
		case <-closed:
			r.fail(r.n.closed())
		}
	}
}

func (r *nodeRun) fail(err error) { r.failed = err }

// recall tells the Holder whether it is known what is in hand since before the process began.
func (r *nodeRun) recall() {
	now := r.n.claims.recalling()
	if now == r.recalling {
		return
	}
	r.recalling = now
	if now {
		r.h.Expect()
	} else {
		r.h.Recalled()
	}
}

// ring takes what the follower knows.
func (r *nodeRun) ring() {
	record, err := r.follower.current()
	switch {
	case errors.Is(err, ErrNoGroup):
		r.gone = true
		r.h.Gone()
		r.makeAnew()
	case record != nil: // also when there is a newer one that cannot be read: others take over only from who has let go
		before := r.h.Record()
		if before == nil || before.Incarnation != record.Incarnation {
			if err := r.n.suits(record); err != nil {
				r.fail(err)
				return
			}
		}
		r.gone = false
		r.h.Ring(record)
	}
}

// makeAnew makes the group that somebody has deleted, as it was made at first.
func (r *nodeRun) makeAnew() {
	if r.making || r.leaving.begun {
		return
	}
	r.making = true
	r.background.Go(func() {
		err := r.n.makeGroup(r.work)
		r.n.refresh()
		r.n.events.put(func(r *nodeRun) {
			r.making = false
			if err != nil && r.work.Err() == nil {
				r.fail(err)
			}
		})
	})
}

// joined begins a term.
func (r *nodeRun) joined(t *term) {
	r.term = t
	r.presence.forget()
	r.h.Joined(t.session.ID())
}

// lost ends a term.
func (r *nodeRun) lost(t *term) {
	if r.term == t {
		r.term = nil
		r.h.Lost()
	}
}
