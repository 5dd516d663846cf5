// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// In kind Data a node that ends keeps what it owns: nothing is written that moves anything, and others act for none of it.
func TestDataNodeLeaves(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	n1, n2 := c.node(node("n1", Data, s.hooks("n1"))).up(), c.node(node("n2", Data, s.hooks("n2"))).up()
	r := d.settled("n1", "n2")
	released := s.count("n1 release")
	said, before, err := d.s.presence(t.Context(), "g", "n1")
	must(t, err)
	n1.end()
	down := d.await("n1 is down", func(r *handoff.Record) bool { return r.Node("n1").Down })
	if _, after, err := d.s.presence(t.Context(), "g", "n1"); err != nil || after.revision != before.revision || said.Leaving {
		t.Errorf("it has said something at the end: %v", err)
	}
	if s.count("n1 release") != released || len(owned(down, "n1")) != len(owned(r, "n1")) || len(down.Moving) != 0 {
		t.Errorf("%d calls of Release; n1 owns %d, %d move", s.count("n1 release")-released, len(owned(down, "n1")), len(down.Moving))
	}
	n2.refuses(keyIn(down, owned(down, "n1")[0]), ErrWrongOwner, "n1 does")
}

// In kind Instant a node says that it goes, and waits for nothing else: nobody has to hear it.
func TestInstantNodeLeaves(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	n1, n2 := c.node(node("n1", Instant)).up(), c.node(node("n2", Instant)).up()
	d.settled("n1", "n2")
	n1.end()
	r := d.settled("n2")
	n2.enter(keyIn(r, 0))()
	d.hold()
	begun := time.Now()
	n2.end()
	if took := time.Since(begun); took > testPatience/2 {
		t.Errorf("without a steward it took %v", took)
	}
	if said, _, err := d.s.presence(t.Context(), "g", "n2"); err != nil || !said.Leaving {
		t.Errorf("it has not said that it goes: %+v, %v", said, err)
	}
	n3 := c.node(node("n3", Instant))
	eventually(t, "it has a session", func() bool { return n3.session() != "" })
	c.down()
	n3.stop()
	must(t, n3.wait()) // nor has anybody to answer
}

// In kind HandOff, what cannot be handed over in time is left, and Run says what and why.
func TestNodeIsNotDrained(t *testing.T) {
	brief := func(cfg *NodeConfig) { cfg.DrainTimeout = 300 * time.Millisecond }
	for want, stay := range map[string]func(*testing.T, *proc, *handoff.Record, *script) func(){
		"work is in hand": func(_ *testing.T, p *proc, r *handoff.Record, _ *script) func() {
			return p.enter(keyIn(r, owned(r, "n1")[0]))
		},
		"hooks of 8 partitions fail": func(_ *testing.T, _ *proc, _ *handoff.Record, s *script) func() {
			s.fail.Store(true)
			return func() {}
		},
		"1 branches are not settled": func(t *testing.T, p *proc, r *handoff.Record, _ *script) func() {
			mustClaim(t, p, 1, keyIn(r, owned(r, "n1")[0]))
			return func() {}
		},
		"prepared before the process began": func(_ *testing.T, p *proc, _ *handoff.Record, _ *script) func() {
			p.Expect()
			return func() {}
		},
	} {
		t.Run(want, func(t *testing.T) {
			c := start(t)
			d := c.decide("g", "n1", "n2")
			s := newScript(t)
			s.dies.Store(true)
			n1 := c.node(node("n1", HandOff, s.hooks("n1"), brief)).up()
			c.node(node("n2", HandOff, s.hooks("n2"))).up()
			r := d.settled("n1", "n2")
			leave := stay(t, n1, r, s)
			n1.stop()
			err := n1.wait()
			s.fail.Store(false)
			leave()
			wantError(t, err, ErrNotDrained)
			if !strings.Contains(err.Error(), "not handed over within 300ms") || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want that it names %q", err, want)
			}
			d.settled("n2") // who takes over, all the same
		})
	}
}

// A node that nobody has taken into the ring leaves without waiting for that.
func TestNodeLeavesBeforeItHasJoined(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	d.hold()
	n1 := c.node(node("n1", HandOff))
	eventually(t, "it has a session", func() bool { return n1.session() != "" })
	n1.end()
	waits := c.node(node("n2", HandOff))
	rival := c.node(node("n2", HandOff))
	eventually(t, "one of the two has a session", func() bool { return waits.session() != "" || rival.session() != "" })
	if waits.session() != "" {
		waits, rival = rival, waits
	}
	waits.end()
	rival.end()
}

// Work that Enter let in, and requests, are over before the session ends.
func TestNodeWaitsForWorkAtTheEnd(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	n1 := c.node(node("n1", Data)).up()
	d.settled("n1")
	leave := n1.enter("k")
	held := n1.now.Load().term
	n1.stop()
	eventually(t, "it refuses work", func() bool { return !n1.acts("k") })
	select {
	case <-held.session.Done():
		t.Error("the session is over while work is in hand")
	case err := <-n1.err:
		n1.err <- err
		t.Errorf("Run has returned (%v) while work is in hand", err)
	default:
	}
	must(t, held.ctx.Err())
	leave()
	must(t, n1.wait())
	if err := held.session.Err(); err == nil {
		t.Error("the session goes on")
	}
}

// A context whose deadline passes is as good a reason as any.
func TestRunEndsWithADeadline(t *testing.T) {
	c := start(t)
	c.decide("g", "n1")
	p := c.prepare(node("n1", HandOff))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	must(t, p.Run(ctx))
}
