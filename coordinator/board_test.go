// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// board tells rings in place of the router, so that a test decides what is told, and to whom.
type board struct {
	mu      sync.Mutex
	ring    *ring.Ring
	epoch   uint64
	changed chan struct{}
}

// reader is how a coordinator reads a board: a stale one is not told anything new, a broken one fails.
type reader struct {
	*board
	mu            sync.Mutex
	stale, broken bool
	last          *ring.Ring
	lastEpoch     uint64
}

func newBoard(t *testing.T, shards int) *board {
	t.Helper()
	none, err := ring.New(shards, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &board{ring: none, epoch: 1, changed: make(chan struct{})}
}

// give makes the next ring, of these nodes.
func (b *board) give(t *testing.T, names ...string) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var nodes []ring.Node
	for _, name := range names {
		nodes = append(nodes, ring.Node{Name: name, Weight: 1})
	}
	next, err := b.ring.Next(nodes, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.ring = next
	b.epoch++
	close(b.changed)
	b.changed = make(chan struct{})
}

// route has a coordinator follow the board, and do nothing else for routing.
func (b *board) route(c *Coordinator) func(context.Context) func() {
	if b == nil {
		return func(context.Context) func() { return func() {} }
	}
	return func(ctx context.Context) func() {
		var following sync.WaitGroup
		following.Go(func() { c.keep(ctx, "following", c.followRing) })
		return following.Wait
	}
}

var errBroken = errors.New("the bucket is out of reach")

func (r *reader) Ring(context.Context, string) (*ring.Ring, uint64, uint64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return nil, 0, 0, errBroken
	}
	r.board.mu.Lock()
	defer r.board.mu.Unlock()
	if !r.stale || r.last == nil {
		r.last, r.lastEpoch = r.board.ring, r.board.epoch
	}
	return r.last, 7, r.lastEpoch, nil
}

func (r *reader) After(ctx context.Context, _ string, _, epoch uint64) error {
	for {
		r.board.mu.Lock()
		now, changed := r.board.epoch, r.changed
		r.board.mu.Unlock()
		r.mu.Lock()
		stale := r.stale
		r.mu.Unlock()
		if now > epoch && !stale {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return router.ErrClosed
		}
	}
}

func (r *reader) set(stale, broken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale, r.broken = stale, broken
}

// sharing is coordinators that share by a board.
type sharing struct {
	*world
	shards  int
	all     map[string]*Coordinator
	stops   map[string]func()
	readers map[string]*reader
}

func newSharing(t *testing.T, shards int) *sharing {
	t.Helper()
	w := newWorld(t)
	w.board = newBoard(t, shards)
	return &sharing{w, shards, make(map[string]*Coordinator), make(map[string]func()), make(map[string]*reader)}
}

func (s *sharing) join(name string, r *reader) {
	s.t.Helper()
	r.board = s.board
	s.prepare = func(c *Coordinator) { c.openRings = func() (rings, func(), error) { return r, func() {}, nil } }
	s.readers[name] = r
	s.all[name], s.stops[name] = s.coordinate(Config{Name: name, Shards: s.shards, DrainTimeout: patience})
}

func (s *sharing) stop(name string) {
	s.stops[name]()
	delete(s.all, name)
}

// owners are the shards of each, by the ring.
func (s *sharing) owners() map[string][]int {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	owners := make(map[string][]int)
	for shard := range s.shards {
		owner := s.board.ring.OwnerOf(shard)
		owners[owner] = append(owners[owner], shard)
	}
	return owners
}

// asTheRingSays waits until each leads what the ring gives to it, and nothing else.
func (s *sharing) asTheRingSays() {
	s.t.Helper()
	owners := s.owners()
	s.until(fmt.Sprintf("the shards are led as %v", owners), func() bool {
		for name, c := range s.all {
			if !slices.Equal(c.Leads(), owners[name]) && len(c.Leads())+len(owners[name]) > 0 {
				return false
			}
		}
		return true
	})
}

// Coordinators come and go, and each leads what the ring gives to it.
func TestTheRingIsFollowed(t *testing.T) {
	for _, shards := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			s := newSharing(t, shards)
			s.board.give(t, "a")
			s.join("a", &reader{})
			s.asTheRingSays()
			s.join("b", &reader{})
			s.board.give(t, "a", "b")
			s.asTheRingSays()
			s.join("c", &reader{})
			s.board.give(t, "a", "b", "c")
			s.asTheRingSays()
			s.stop("b") // before the ring says so
			s.board.give(t, "a", "c")
			s.asTheRingSays()
			s.board.give(t, "c") // drained
			s.asTheRingSays()
			s.board.give(t) // nobody's: everybody goes on
			s.join("d", &reader{})
			if got := s.all["c"].Leads(); len(got) != shards {
				t.Errorf("of %d shards that the ring gives to nobody it leads %d still", shards, len(got))
			}
		})
	}
}

// One whose ring is old, and one that cannot read it at all, lead what they are granted while nobody else is there, and give way
// to those that the ring gives it to, once they can read it.
func TestLeadingWithoutTheRing(t *testing.T) {
	for name, r := range map[string]*reader{"old": {stale: true}, "out of reach": {broken: true}} {
		t.Run(name, func(t *testing.T) {
			s := newSharing(t, 8)
			s.board.give(t, "a")
			s.join("a", r)
			s.until("it leads all", func() bool { return len(s.all["a"].Leads()) == 8 })
			s.join("b", &reader{})
			s.board.give(t, "a", "b")
			s.until("b has read the ring", func() bool { return s.all["b"].ringEpoch() == 3 })
			s.until("a has heard of it", func() bool {
				share := s.all["a"].share
				share.mu.Lock()
				defer share.mu.Unlock()
				_, latest := share.living(time.Now())
				return latest.Epoch == 3
			})
			if got := s.all["a"].Leads(); len(got) != 8 {
				t.Fatalf("without knowing whose they are it has given away all but %v", got)
			}
			s.stop("b")
			s.join("b", &reader{})
			r.set(false, false)
			s.board.give(t, "a", "b") // and is told of it
			s.asTheRingSays()
		})
	}
}

// The leader of some shards is gone, and the ring does not know yet: its shards go where they will be to stay.
func TestTheHeirLeads(t *testing.T) {
	s := newSharing(t, 8)
	for _, name := range []string{"a", "b", "c"} {
		s.join(name, &reader{})
	}
	s.board.give(t, "a", "b", "c")
	s.asTheRingSays()
	next, err := s.board.ring.Next([]ring.Node{{Name: "a", Weight: 1}, {Name: "c", Weight: 1}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.court.close(true) // a court is quicker than a beat, which no lock is
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stops["b"]() }()
	s.until("both have heard that b stops", func() bool { return s.all["a"].peers() == 1 && s.all["c"].peers() == 1 })
	s.court.close(false)
	<-stopped
	s.until("the heirs lead", func() bool {
		for shard := range s.shards {
			if !s.all[next.OwnerOf(shard)].leadsShard(shard) {
				return false
			}
		}
		return true
	})
}

func (c *Coordinator) ringEpoch() uint64 {
	c.share.mu.Lock()
	defer c.share.mu.Unlock()
	return c.share.at.Epoch
}

func (c *Coordinator) peers() int {
	c.share.mu.Lock()
	defer c.share.mu.Unlock()
	return len(c.share.peers)
}
