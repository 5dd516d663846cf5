// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// keepTime is for how long a session must have ended until what its node said is taken back, if the node is in no ring any more.
const keepTime = 10 * time.Second

// batchTime is how long moves that are released wait at most for others of their batch, so that one ring completes them all.
const batchTime = 50 * time.Millisecond

// restTime bounds the rest after a batch of moves, which is as long as the batch took: a group that is being rebalanced has half of
// the time for its work.
const restTime = 250 * time.Millisecond

// decideAll decides for each group of which something was heard, or whose time has come, and that has no write under way: so
// what comes meanwhile gathers, and the next ring has all of it. It gives when to do so again.
func (t *tenure) decideAll(ctx context.Context) time.Duration {
	now := time.Now()
	next := now.Add(time.Hour)
	for _, g := range t.groups {
		if t.writing < maxWriting && !g.writing && g.blocked.IsZero() && (g.dirty || !g.due.IsZero() && !now.Before(g.due)) {
			g.dirty, g.due = false, time.Time{}
			t.decide(ctx, g, now)
			t.tidy(ctx, g, now)
		}
		if !g.due.IsZero() && !g.writing && g.due.Before(next) {
			next = g.due
		}
	}
	return max(time.Until(next), time.Millisecond)
}

// wake has it decided at a time, if not before.
func (g *watched) wake(at time.Time) {
	if g.due.IsZero() || at.Before(g.due) {
		g.due = at
	}
}

// decide begins to store the next ring of a group, if there is one.
func (t *tenure) decide(ctx context.Context, g *watched, now time.Time) {
	if g.at.record == nil {
		return
	}
	next, begins, wait := t.next(g, now)
	if wait > 0 {
		g.wake(now.Add(time.Duration(wait) * time.Millisecond))
	}
	if next != nil && !begins && t.waits(g, next, now) {
		return
	}
	g.gathers = time.Time{}
	if next == nil {
		return
	}
	t.report(g.at.record, next)
	g.pace(next, now)
	g.writing = true
	before := g.at
	t.write(ctx, func(ctx context.Context) written {
		after, err := t.s.put(ctx, before, next)
		return written{g, next, before.raw.revision, after, err}
	})
}

// next is the next ring of a group, if there is one. It begins moves, or does everything else that there is to do, never both:
// between a batch and the next is a rest.
func (t *tenure) next(g *watched, now time.Time) (next *handoff.Record, begins bool, wait int64) {
	view := t.view(g, now)
	view.Rest = true
	if next, wait = handoff.Decide(g.at.record, view); next != nil {
		return next, false, wait
	}
	if now.Before(g.rest) {
		g.wake(g.rest)
		return nil, false, wait
	}
	view.Rest = false
	next, wait = handoff.Decide(g.at.record, view)
	return next, true, wait
}

// pace notes when a batch of moves begins, and has a rest follow on one of which something was completed.
func (g *watched) pace(next *handoff.Record, now time.Time) {
	before, after := len(g.at.record.Moving), len(next.Moving)
	if before > 0 && g.began.IsZero() || before == 0 && after > 0 {
		g.began = now
	}
	if after < before {
		g.rest = now.Add(min(now.Sub(g.began), restTime))
	}
	if after == 0 {
		g.began = time.Time{}
	}
}

// waits tells whether a ring is put off, because what it does is done better together with what is released soon. The time
// for that begins with the first move that could be completed.
func (t *tenure) waits(g *watched, next *handoff.Record, now time.Time) bool {
	if !g.at.record.MayWait(next) {
		return false
	}
	if g.gathers.IsZero() {
		g.gathers = now
	}
	over := g.gathers.Add(t.gather)
	if !now.Before(over) {
		return false
	}
	g.wake(over)
	return true
}

// write does a write in the background.
func (t *tenure) write(ctx context.Context, f func(context.Context) written) {
	t.writing++
	t.running.Go(func() {
		w := f(ctx)
		select {
		case t.written <- w:
		case <-ctx.Done():
		}
	})
}

// view is what is known of the nodes of a group. A node that is new is left out until its session was seen, so that none that
// is gone joins for a moment; but not one that may still act by an earlier incarnation.
func (t *tenure) view(g *watched, now time.Time) *handoff.View {
	v := &handoff.View{Nodes: make(map[string]handoff.Presence, len(g.nodes)), Ended: make(map[string]int64)}
	for name, s := range g.nodes {
		t.addEnded(v, s.presence.Session, now)
		j := t.sessions[s.presence.Session]
		if g.at.record.Node(name) != nil || s.presence.Incarnation != g.at.record.Incarnation || j != nil && j.seen {
			v.Nodes[name] = s.presence
		}
	}
	for i := range g.at.record.Nodes {
		t.addEnded(v, g.at.record.Nodes[i].Session, now)
	}
	return v
}

func (t *tenure) addEnded(v *handoff.View, session string, now time.Time) {
	if j := t.sessions[session]; j != nil && !j.ended.IsZero() {
		v.Ended[session] = now.Sub(j.ended).Milliseconds()
	}
}

// tidy takes back what nodes have said whose sessions have ended and that are in no ring.
func (t *tenure) tidy(ctx context.Context, g *watched, now time.Time) {
	if g.at.record == nil && g.at.raw.revision > 0 && !g.at.raw.deleted {
		return // the ring cannot be read
	}
	for name, s := range g.nodes {
		j := t.sessions[s.presence.Session]
		if s.cleaning || j == nil || j.ended.IsZero() || g.at.record != nil && g.at.record.Node(name) != nil {
			continue
		}
		if left := t.keep - now.Sub(j.ended); left > 0 {
			g.wake(now.Add(left))
			continue
		}
		if t.writing >= maxWriting {
			g.dirty = true // later
			return
		}
		s.cleaning = true
		stored := s.raw
		t.write(ctx, func(ctx context.Context) written {
			_, err := t.s.deletePresence(ctx, g.name, name, stored)
			if err != nil && !errors.Is(err, errConflict) { // it is tried again by the next steward
				t.log.WithError(err).WithFields(logrus.Fields{"group": g.name, "node": name}).Debug("what a node said that is gone was not taken back")
			}
			return written{group: g, err: err}
		})
	}
}

// report logs what an operator may want to know of a ring that is about to be stored.
func (t *tenure) report(before, after *handoff.Record) {
	log := t.log.WithFields(logrus.Fields{"group": after.Group, "epoch": after.Epoch})
	for i := range after.Nodes {
		n := &after.Nodes[i]
		was := before.Node(n.Name)
		switch {
		case was == nil:
			log.WithField("node", n.Name).Info("a node joins")
		case n.Down && !was.Down && after.Kind == handoff.Data:
			log.WithField("node", n.Name).Warn("a node is down, and keeps its partitions: start it again, or take it out")
		case n.Down && !was.Down:
			log.WithField("node", n.Name).Warn("a node is down")
		case was.Down && !n.Down:
			log.WithField("node", n.Name).Info("a node is back")
		}
	}
	for i := range before.Nodes {
		if name := before.Nodes[i].Name; after.Node(name) == nil {
			log.WithField("node", name).Info("a node is out")
		}
	}
	log.WithField("moving", len(after.Moving)).Debug("the next ring")
}
