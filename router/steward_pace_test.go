// SPDX-License-Identifier: Apache-2.0

package router

import (
	"testing"
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// releases has a node say, one presence after the other, that it has released what it is to release; all but what is kept.
func (m *member) releases(r *handoff.Record, keep int) {
	m.c.t.Helper()
	for _, move := range r.Moving {
		if r.Owner(move.Partition) == m.name && move.Partition != keep {
			m.said.Released = append(m.said.Released, move)
			m.say()
		}
	}
}

// awaitMoves waits for a ring in which partitions move that began after an epoch.
func (c *cluster) awaitMoves(s *store, after uint64) *handoff.Record {
	c.t.Helper()
	return c.awaitRing(s, "g", "moves begin", func(r *handoff.Record) bool { return len(r.Moving) > 0 && r.Moving[0].Since > after })
}

// A batch is completed by one record, however many nodes release its partitions in however many presences, and the next one is begun
// by another, after a rest.
func TestABatchIsOneRecord(t *testing.T) {
	c := start(t)
	s := c.store()
	defer c.tenure(s, func(steward *tenure) { steward.gather = testPatience })()
	c.made(s, "g", handoff.Settings{Partitions: 96, Kind: handoff.HandOff, GraceMS: -1, Batch: 16})
	a, b := c.member(s, "g", "a"), c.member(s, "g", "b")
	for r := c.awaitRing(s, "g", "two nodes", func(r *handoff.Record) bool { return len(r.Nodes) == 2 }); !shares("a", "b")(r); {
		a.releases(r, -1)
		b.releases(r, -1)
		r = c.awaitRing(s, "g", "the next batch", func(next *handoff.Record) bool { return next.Epoch > r.Epoch })
	}
	c.member(s, "g", "c")
	first := c.awaitMoves(s, 0)
	r := first
	for !shares("a", "b", "c")(r) {
		a.releases(r, -1)
		b.releases(r, -1)
		epoch := r.Epoch
		r = c.awaitRing(s, "g", "the next batch", func(next *handoff.Record) bool { return next.Epoch > epoch })
	}
	if n := r.Epoch - first.Epoch; n != 3 {
		t.Errorf("%d records for 32 moves in batches of 16 of which the first has begun, want 3", n)
	}
}

// One that is not released holds the others of its batch back for a moment only, and a node that joins for none: it takes along what
// is released.
func TestABatchWaitsOnlyAMoment(t *testing.T) {
	for _, test := range []struct {
		name   string
		gather time.Duration
		joins  bool
	}{{"the moment is over", time.Millisecond, false}, {"somebody joins", testPatience, true}} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t)
			s := c.store()
			defer c.tenure(s, func(steward *tenure) { steward.gather = test.gather })()
			c.made(s, "g", handoff.Settings{Partitions: 64, Kind: handoff.HandOff, GraceMS: -1, Batch: 8})
			a := c.member(s, "g", "a")
			c.awaitRing(s, "g", "a alone", shares("a"))
			c.member(s, "g", "b")
			r := c.awaitMoves(s, 0)
			kept := r.Moving[3].Partition
			a.releases(r, kept)
			if test.joins {
				c.member(s, "g", "c")
			}
			c.awaitRing(s, "g", "the others are moved", func(next *handoff.Record) bool {
				return next.Since(kept) == r.Epoch && len(owned(next, "b")) == 7 && len(next.Moving) == 8
			})
		})
	}
}
