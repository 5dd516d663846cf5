// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"

	"github.com/assent-tx/assent/internal/elle"
)

// wantAnomaly: the schedule gives the anomaly without keys, and none with them.
func wantAnomaly(t *testing.T, class elle.Class, schedule func(s *stage)) {
	t.Helper()
	t.Run("without keys", func(t *testing.T) {
		if r := inBubble(t, false, schedule); r.Counts[class] == 0 {
			t.Errorf("found %v, want %s", r.Counts, class)
		}
	})
	t.Run("with keys", func(t *testing.T) {
		if r := inBubble(t, true, schedule); !r.OK() || r.Committed < 3 {
			t.Errorf("found %v in %d transactions", r.Counts, r.Committed)
		}
	})
}

// T1 is committed, and not applied yet, when T2 reads: both have read [], and both append.
func TestLostUpdate(t *testing.T) {
	wantAnomaly(t, elle.LostUpdate, func(s *stage) {
		release := s.hold("commit T1 at a")
		s.do(read("x"), appendTo("x", 1))
		s.quiet()
		s.do(read("x"), appendTo("x", 2))
		s.quiet()
		release()
	})
}

// T1 reads x and changes y, T2 reads y and changes x: neither sees the other.
func TestWriteSkew(t *testing.T) {
	wantAnomaly(t, elle.G2Item, func(s *stage) {
		release := s.hold("commit T1 at b")
		s.do(read("x"), appendTo("y", 1))
		s.quiet()
		s.do(read("y"), appendTo("x", 2))
		s.quiet()
		release()
	})
}

// T1 is applied at b and not yet at a: T2 sees half of it.
func TestReadSkew(t *testing.T) {
	wantAnomaly(t, elle.GSingle, func(s *stage) {
		release := s.hold("commit T1 at a")
		s.do(appendTo("x", 1), appendTo("y", 1))
		s.quiet()
		s.do(read("x"), read("y"))
		s.quiet()
		release()
	})
}

// T1 reads x, and much later y. Meanwhile T2 changes x, T3 sees that, and sees y unchanged; then T4 changes y, which T1 sees. T3 saw T2 and not T4, and
// T1 saw T4 and not T2.
func TestLongFork(t *testing.T) {
	wantAnomaly(t, elle.GNonadjacent, func(s *stage) {
		release := s.hold("prepare T1 at b")
		s.do(read("x"), read("y"))
		s.quiet()
		s.do(appendTo("x", 2))
		s.quiet()
		s.do(read("x"), read("y"))
		s.quiet()
		s.do(appendTo("y", 4))
		s.quiet()
		release()
	})
}

// T1 and T2 are applied in one order at a and in the other at b.
func TestDirtyWrite(t *testing.T) {
	wantAnomaly(t, elle.G0, func(s *stage) {
		release := s.hold("commit T1 at b")
		s.do(appendTo("x", 1), appendTo("y", 1))
		s.quiet()
		s.do(appendTo("x", 2), appendTo("y", 2))
		s.quiet()
		release()
	})
}

// T2 saw what T1 did at a, and is before it at b.
func TestCircularInformationFlow(t *testing.T) {
	wantAnomaly(t, elle.G1c, func(s *stage) {
		release := s.hold("commit T1 at b")
		s.do(appendTo("x", 1), appendTo("y", 1))
		s.quiet()
		s.do(read("x"), appendTo("y", 2))
		s.quiet()
		release()
	})
}

// T1's client was told that it is committed, before T2 begins, which does not see it.
func TestStaleRead(t *testing.T) {
	wantAnomaly(t, elle.GSingle+elle.Realtime, func(s *stage) {
		release := s.hold("commit T1 at a")
		s.do(appendTo("x", 1))()
		s.do(read("x"))
		s.quiet()
		release()
	})
}

// What is prepared and not committed nobody sees, with keys or without: T1 is prepared at a, and not yet at b, while T2 reads.
func TestNoDirtyRead(t *testing.T) {
	for _, keys := range []bool{false, true} {
		r := inBubble(t, keys, func(s *stage) {
			release := s.hold("prepare T1 at b")
			s.do(appendTo("x", 1), appendTo("x", 2), appendTo("y", 1))
			s.quiet()
			s.do(read("x"), read("y"))
			s.quiet()
			release()
		})
		if !r.OK() || r.Committed != 3 {
			t.Errorf("keys %v: found %v in %d transactions", keys, r.Counts, r.Committed)
		}
	}
}
