// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestSharesComeToRest: whoever comes and goes, and however leases are queued for, each coordinator leads its part soon, and
// nothing moves after that. (A simulation of the rule alone; what is told arrives at once.)
func TestSharesComeToRest(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := &shareWorld{t: t, seed: seed, shards: 1 + r.IntN(20), rand: r}
		s.queues = make([][]*share, s.shards)
		s.holders = make([]*share, s.shards)
		for range 1 + r.IntN(4) {
			s.join()
		}
		for range 6 {
			s.rest()
			if r.IntN(2) == 0 && len(s.all) > 1 {
				s.die(s.all[r.IntN(len(s.all))])
			} else {
				s.join()
			}
		}
	}
}

// shareWorld is coordinators that share, with queues in place of locks.
type shareWorld struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	shards  int
	all     []*share
	queues  [][]*share
	holders []*share
}

func (w *shareWorld) join() {
	w.t.Helper()
	cfg, err := Config{Shards: w.shards}.withDefaults()
	if err != nil {
		w.t.Fatal(err)
	}
	s := newShare(nil, &cfg)
	s.every = time.Hour                        // nobody is silent for too long
	s.send = func([]byte) error { return nil } // see announce
	w.all = append(w.all, s)
	for shard := range w.queues {
		w.queues[shard] = append(w.queues[shard], s)
	}
	for _, one := range w.all {
		w.announce(one)
	}
	w.grant()
}

// announce has everybody know what one leads.
func (w *shareWorld) announce(s *share) {
	var told []byte
	send := s.send
	s.send = func(body []byte) error { told = body; return nil }
	s.tell(false)
	s.send = send
	for _, other := range w.all {
		other.hear(told) // its own it passes over
	}
}

// grant gives every free shard to the first who waits and does not pass it on.
func (w *shareWorld) grant() {
	for shard := range w.queues {
		for tries := 0; w.holders[shard] == nil && len(w.queues[shard]) > 0; tries++ {
			if tries > 3*len(w.all) {
				w.t.Fatalf("seed %d: shard %d goes round and round", w.seed, shard)
			}
			s := w.queues[shard][0]
			w.queues[shard] = w.queues[shard][1:]
			if s.passes(shard) {
				w.queues[shard] = append(w.queues[shard], s)
				continue
			}
			w.holders[shard] = s
			s.set(shard, leads)
			w.announce(s)
		}
	}
}

func (w *shareWorld) die(s *share) {
	w.all = slices.DeleteFunc(w.all, func(other *share) bool { return other == s })
	for _, other := range w.all {
		other.mu.Lock()
		delete(other.peers, s.id)
		other.mu.Unlock()
	}
	for shard := range w.queues {
		w.queues[shard] = slices.DeleteFunc(w.queues[shard], func(other *share) bool { return other == s })
		if w.holders[shard] == s {
			w.holders[shard] = nil
		}
	}
	w.grant()
}

// rest has everybody look for a surplus, in any order, until nobody has one.
func (w *shareWorld) rest() {
	w.t.Helper()
	for round := 0; ; round++ {
		if round > 10*w.shards {
			w.t.Fatalf("seed %d: it does not come to rest", w.seed)
		}
		moved := false
		for _, i := range w.rand.Perm(len(w.all)) {
			s := w.all[i]
			s.rest = time.Time{}
			for p := range s.passed {
				s.passed[p] = time.Time{}
			}
			for _, shard := range s.surplus(time.Now()) {
				moved = true
				s.set(shard, follows)
				w.announce(s)
				w.holders[shard] = nil
				w.queues[shard] = append(w.queues[shard], s)
				w.grant()
			}
		}
		if !moved {
			break
		}
	}
	least, most := w.shards, 0
	for _, s := range w.all {
		led := len(s.shards())
		least, most = min(least, led), max(most, led)
	}
	if most-least > 1 {
		w.t.Fatalf("seed %d: of %d shards one leads %d and another %d", w.seed, w.shards, most, least)
	}
}
