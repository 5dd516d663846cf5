// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// The pace of a steward.
const (
	// hintTime is the time between two repetitions of which ring is the newest.
	hintTime = 250 * time.Millisecond
	// goneTime is for how long it is repeated that a group was deleted.
	goneTime = 10 * time.Second
	// guardTime is the time between two looks at whether the watch keeps up.
	guardTime = 2 * time.Second
	// restartTime is the pause before the rings are read anew. It bounds what a watch costs that breaks at once, again and again; and a
	// server that is just deleting the bucket must have done so before the bucket is made anew, or it may give back what was in it.
	restartTime = 500 * time.Millisecond
	// failTime is the pause after a write that failed for another reason than that somebody else was quicker.
	failTime = time.Second
	// maxWriting is how many writes are under way at a time.
	maxWriting = 16
)

// tenure is one steward's time. All of it belongs to the goroutine of run; what others do comes back as events.
type tenure struct {
	s       *store
	session *locks.Session
	log     *logrus.Logger
	keep    time.Duration // keepTime
	gather  time.Duration // batchTime

	groups   map[string]*watched
	sessions map[string]*judged
	watch    *watch

	judgements chan judgement
	written    chan written
	guarded    chan guarded
	guarding   bool
	writing    int
	running    sync.WaitGroup // all goroutines of the tenure
}

// watched is a group as the watch has it. Invariant: nodes are at least as new as the record.
type watched struct {
	name  string
	at    version
	nodes map[string]*said

	writing bool
	dirty   bool      // something was heard since it was last decided
	blocked time.Time // since when it waits for the record that another has stored; zero when it does not
	due     time.Time // when there may be something to do although nothing is heard; zero for never
	gathers time.Time // since when moves that could be completed wait for others; zero when none does
	began   time.Time // when the moves under way began; zero when there are none
	rest    time.Time // until when no others begin
	gone    time.Time // when it was heard that the group was deleted
}

// said is what a node says of itself, and as what it is stored.
type said struct {
	presence handoff.Presence
	raw      raw
	cleaning bool
}

// written is what came of a write: of a record, or of taking back a presence.
type written struct {
	group  *watched
	record *handoff.Record // nil for a presence
	before uint64          // the revision in the place of which it was to be stored
	after  version
	err    error
}

func newTenure(s *store, session *locks.Session, log *logrus.Logger) *tenure {
	return &tenure{
		s: s, session: session, log: log, keep: keepTime, gather: batchTime, sessions: make(map[string]*judged),
		judgements: make(chan judgement), written: make(chan written), guarded: make(chan guarded),
	}
}

// run is the steward until ctx ends. It returns the reason, or why it cannot watch.
func (t *tenure) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer t.running.Wait()
	defer cancel(nil)
	if err := t.restart(ctx); err != nil {
		return err
	}
	defer func() { t.watch.stop() }()
	hints, guards, timer := time.NewTicker(hintTime), time.NewTicker(guardTime), time.NewTimer(0)
	defer hints.Stop()
	defer guards.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case it := <-t.watch.items:
			t.take(it)
			t.takeMore()
		case j := <-t.judgements:
			t.hear(j)
		case w := <-t.written:
			t.finish(w)
		case <-hints.C:
			t.hint()
		case <-guards.C:
			t.guard(ctx)
		case g := <-t.guarded:
			t.guarding = false
			if err := t.lags(g); err != nil {
				t.watch.fail(err)
			}
		case err := <-t.watch.broken:
			t.log.WithError(err).Info("the steward reads the rings anew")
			if !streams.Pause(ctx, restartTime) {
				return context.Cause(ctx)
			}
			if err := t.restart(ctx); err != nil {
				return err
			}
		case <-timer.C:
		}
		if t.watch.caughtUp() {
			t.judgeAll(ctx)
			timer.Reset(t.decideAll(ctx))
		}
	}
}

// takeMore takes what has come meanwhile, so that one decision does for all of it.
func (t *tenure) takeMore() {
	for range cap(t.watch.items) {
		select {
		case it := <-t.watch.items:
			t.take(it)
		default:
			return
		}
	}
}

// take takes what was stored at a subject.
func (t *tenure) take(it watchedItem) {
	t.watch.took(it)
	name, node, ok := t.s.names.parseKey(it.subject)
	if !ok {
		return
	}
	g := t.groups[name]
	if g == nil {
		g = &watched{name: name, nodes: make(map[string]*said)}
		t.groups[name] = g
	}
	g.dirty = true
	if node != "" {
		t.takePresence(g, node, it.raw)
		return
	}
	if it.raw.revision <= g.at.raw.revision {
		return // this steward's own, which it knows
	}
	v, err := readRecord(name, it.raw)
	if errors.Is(err, ErrRecord) || errors.Is(err, ErrNewerRecord) {
		t.log.WithError(err).WithField("group", name).Error("the ring cannot be read, so nothing is done for the group; delete the group by force, or update this program")
	}
	if it.raw.deleted {
		g.gone = time.Now()
	}
	v.raw.data = nil // the record has it
	g.at, g.blocked = v, time.Time{}
}

func (t *tenure) takePresence(g *watched, node string, stored raw) {
	delete(g.nodes, node)
	if stored.deleted {
		return
	}
	p, err := handoff.DecodePresence(stored.data)
	if err != nil {
		t.log.WithError(err).WithFields(logrus.Fields{"group": g.name, "node": node}).Error("what the node says of itself cannot be read")
		return
	}
	p.Revision = stored.revision
	stored.data = nil
	g.nodes[node] = &said{presence: p, raw: stored}
}

// hint tells again which rings are the newest: who was cut off for a moment, and heard nothing, is told now.
func (t *tenure) hint() {
	if !t.watch.caughtUp() {
		return
	}
	for _, g := range t.groups {
		switch r := g.at.record; {
		case r != nil:
			t.s.hint(g.name, r.Incarnation, r.Epoch)
		case g.at.last.Incarnation > 0 && time.Since(g.gone) < goneTime:
			t.s.hint(g.name, g.at.last.Incarnation, g.at.last.Epoch+1)
		}
	}
}

// finish takes what came of a write.
func (t *tenure) finish(w written) {
	t.writing--
	g := w.group
	g.dirty = true
	if w.record == nil {
		return
	}
	g.writing = false
	switch {
	case w.err == nil && w.after.record == w.record:
		if w.after.raw.revision > g.at.raw.revision {
			g.at = w.after
			g.at.raw.data = nil
		}
	case w.err == nil, errors.Is(w.err, errConflict): // others have written: the watch has it soon
		if g.at.raw.revision == w.before {
			g.blocked = time.Now()
		}
	default:
		t.log.WithError(w.err).WithFields(logrus.Fields{"group": g.name, "epoch": w.record.Epoch}).Warn("the next ring was not stored; trying again")
		g.dirty, g.due = false, time.Now().Add(failTime)
	}
}
