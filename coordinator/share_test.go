// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router/ring"
)

// The simulations have the rules of sharing alone, on what they hear and when: queues in place of locks, rings that arrive late and
// beats that get lost in place of NATS, a clock that does not run by itself.

// TestSharesComeToRest: whoever comes, goes and dies, whatever is heard late or never, and however leases are queued for, at last
// each coordinator leads what the ring gives to it, and nothing moves after that.
func TestSharesComeToRest(t *testing.T) {
	for seed := range uint64(100) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := newShareWorld(t, seed, []int{1, 3, 8, 20, 64}[r.IntN(5)])
			w.lossy = true
			for range 30 {
				switch living, dice := len(w.all), r.IntN(12); {
				case living == 0 || living < 6 && dice < 3:
					w.join()
				case dice < 5:
					w.leave(w.all[r.IntN(living)])
				case dice < 7:
					w.die(w.all[r.IntN(living)])
				default:
					w.step()
				}
			}
			if len(w.all) == 0 {
				w.join()
			}
			w.lossy = false
			w.settle()
			w.checkShares()
			moved := w.moved
			w.settle()
			if w.moved != moved {
				t.Fatalf("seed %d: %d shards moved for no reason", seed, w.moved-moved)
			}
		})
	}
}

// TestOnlyTheShareMoves: who comes gets its share, who goes or dies leaves its share, each shard of it moves once, and no other
// moves at all.
func TestOnlyTheShareMoves(t *testing.T) {
	for _, shards := range []int{1, 8, 64} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			for seed := range uint64(20) {
				synctest.Test(t, func(t *testing.T) { onlyTheShareMoves(t, seed, shards) })
			}
		})
	}
}

func onlyTheShareMoves(t *testing.T, seed uint64, shards int) {
	r := rand.New(rand.NewPCG(seed, 2))
	w := newShareWorld(t, seed, shards)
	for range 1 + r.IntN(3) {
		w.join()
		w.settle()
	}
	total := 0
	for range 6 {
		before, moved := w.owners(), w.moved
		var what string
		switch n := r.IntN(3); {
		case n == 0 || len(w.all) == 1:
			what = "join of " + w.join().node
		case n == 1:
			what = "leave of " + w.leave(w.all[r.IntN(len(w.all))])
		default:
			what = "death of " + w.die(w.all[r.IntN(len(w.all))])
		}
		w.settle()
		w.checkShares()
		due := 0
		for shard, owner := range w.owners() {
			if owner != before[shard] {
				due++
			}
		}
		if w.moved-moved != due {
			t.Fatalf("seed %d: %s: %d shards have another owner, and %d moves were made\n%s", seed, what, due, w.moved-moved, w.story())
		}
		total += due
	}
	if total == 0 && shards > 1 {
		t.Fatalf("seed %d: nothing ever moved: the test shows nothing", seed)
	}
}

// shareWorld is coordinators that share, a steward, and queues in place of locks.
type shareWorld struct {
	t       *testing.T
	seed    uint64
	rand    *rand.Rand
	lossy   bool // beats get lost
	all     []*member
	ring    *ring.Ring
	at      version
	queues  [][]*member
	holders []*member // who leads; two do while a shard is handed over, and this is the one from before
	moved   int       // how often a shard got another leader
	wire    []told
	log     []string
}

// member is a coordinator that lives.
type member struct {
	*share
	learns bool // the ring of the moment is to reach it yet
}

type told struct {
	from *member
	body []byte
}

func newShareWorld(t *testing.T, seed uint64, shards int) *shareWorld {
	t.Helper()
	w := &shareWorld{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 3)), at: version{Incarnation: 1}}
	w.queues, w.holders = make([][]*member, shards), make([]*member, shards)
	var err error
	if w.ring, err = ring.New(shards, nil, nil); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *shareWorld) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *shareWorld) story() string { return strings.Join(w.log, "\n") }

func (w *shareWorld) join() *member {
	w.t.Helper()
	cfg, err := Config{Shards: len(w.holders)}.withDefaults()
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		w.t.Fatal(err)
	}
	one := &member{share: newShare(nil, &cfg, m)}
	one.send = func(body []byte) error {
		w.wire = append(w.wire, told{one, body})
		return nil
	}
	w.logf("%s joins", one.node)
	w.all = append(w.all, one)
	for shard := range w.queues {
		w.queues[shard] = append(w.queues[shard], one)
	}
	if w.rand.IntN(2) == 0 { // whether it is heard before it is in the ring or after
		one.tell(true)
		w.hear()
	}
	w.evolve()
	one.tell(true)
	w.hear()
	w.grant()
	return one
}

// leave is a planned stop: it hands over what it leads.
func (w *shareWorld) leave(one *member) (name string) {
	w.logf("%s leaves", one.node)
	one.share.leave()
	w.hear()
	w.remove(one)
	return one.node
}

// die is kill -9: the others notice that it is silent, and leases run out after that.
func (w *shareWorld) die(one *member) (name string) {
	w.logf("%s dies", one.node)
	w.all = slices.DeleteFunc(w.all, func(other *member) bool { return other == one })
	for range beatsMissed + 1 {
		w.beat()
	}
	w.remove(one)
	return one.node
}

// remove has the leases of one be free, and the steward take it out of the ring at some time.
func (w *shareWorld) remove(one *member) {
	w.all = slices.DeleteFunc(w.all, func(other *member) bool { return other == one })
	for shard := range w.queues {
		w.queues[shard] = slices.DeleteFunc(w.queues[shard], func(other *member) bool { return other == one })
	}
	early := w.rand.IntN(2) == 0
	if early {
		w.evolve()
	}
	for _, shard := range w.rand.Perm(len(w.holders)) {
		if w.holders[shard] == one {
			w.holders[shard] = nil
		}
	}
	w.grant()
	if !early {
		w.evolve()
	}
}

// evolve is the steward: the next ring, from the one before and those who are there.
func (w *shareWorld) evolve() {
	w.t.Helper()
	var nodes []ring.Node
	for _, one := range w.all {
		nodes = append(nodes, ring.Node{Name: one.node, Weight: 1})
		one.learns = true
	}
	next, err := w.ring.Next(nodes, nil)
	if err != nil {
		w.t.Fatalf("seed %d: %v", w.seed, err)
	}
	w.ring = next
	w.at.Epoch++
}

// hear delivers what was told; what that makes others tell, too.
func (w *shareWorld) hear() {
	for len(w.wire) > 0 {
		next := w.wire[0]
		w.wire = w.wire[1:]
		var b beat
		if err := json.Unmarshal(next.body, &b); err != nil {
			w.t.Fatalf("%s: %v", next.body, err)
		}
		for _, one := range w.all {
			if lost := w.lossy && w.rand.IntN(5) == 0; one != next.from && !lost {
				one.note(&b)
			}
		}
	}
}

// beat is a beat of everybody.
func (w *shareWorld) beat() {
	time.Sleep(w.every()) //nolint:forbidigo // in a synctest bubble
	for _, one := range w.all {
		one.tell(false)
	}
	w.hear()
}

func (w *shareWorld) every() time.Duration { return defaultLease / beatsPerLease }

// step is something that may happen next: a ring reaches somebody, or somebody hands over what is not its own to lead.
func (w *shareWorld) step() {
	if len(w.all) == 0 {
		return
	}
	one := w.all[w.rand.IntN(len(w.all))]
	if one.learns && w.rand.IntN(2) == 0 {
		one.learns = false
		one.allot(w.ring, w.at)
		w.hear()
	}
	shards := one.surplus(time.Now())
	if len(shards) > handOversAtOnce {
		w.t.Fatalf("seed %d: %d shards at once", w.seed, len(shards))
	}
	for _, shard := range shards {
		one.set(shard, handsOver)
		w.hear()
		w.queues[shard] = append(w.queues[shard], one)
		w.grantOne(shard)
	}
	if w.rand.IntN(3) == 0 {
		w.beat()
	}
}

// grant gives every shard that is free to the first who waits and does not pass it on.
func (w *shareWorld) grant() {
	for _, shard := range w.rand.Perm(len(w.queues)) {
		if w.holders[shard] == nil {
			w.grantOne(shard)
		}
	}
}

func (w *shareWorld) grantOne(shard int) {
	w.t.Helper()
	for tries := 0; len(w.queues[shard]) > 0; tries++ {
		if tries > 2*len(w.all)+1 {
			w.t.Fatalf("seed %d: shard %d goes round and round\n%s", w.seed, shard, w.story())
		}
		one := w.queues[shard][0]
		w.queues[shard] = w.queues[shard][1:]
		if one.passes(shard) {
			w.logf("%s passes shard %d on", one.node, shard)
			w.queues[shard] = append(w.queues[shard], one)
			continue
		}
		before := w.holders[shard]
		w.holders[shard] = one
		one.set(shard, leads)
		w.hear()
		if before != one {
			w.moved++
			w.logf("%s leads shard %d", one.node, shard)
			if before != nil {
				before.set(shard, follows)
				w.hear()
			}
		}
		return
	}
}

// settle has everything be heard, and lets time pass, until nothing can happen any more.
func (w *shareWorld) settle() {
	w.t.Helper()
	for range beatsOfRest + beatsPerLease + len(w.holders)/4 {
		for range len(w.all) {
			w.step()
		}
		w.beat()
	}
	for _, one := range w.all {
		if one.learns {
			one.learns = false
			one.allot(w.ring, w.at)
			w.hear()
		}
		if shards := one.surplus(time.Now()); len(shards) > 0 {
			w.t.Fatalf("seed %d: it does not come to rest: %v\n%s", w.seed, shards, w.story())
		}
	}
}

func (w *shareWorld) owners() (owners []string) {
	for shard := range w.holders {
		owners = append(owners, w.ring.OwnerOf(shard))
	}
	return owners
}

// checkShares: each shard is led by its owner, and nobody has more than one over another.
func (w *shareWorld) checkShares() {
	w.t.Helper()
	led := make(map[string]int)
	for shard, one := range w.holders {
		if one == nil || one.node != w.ring.OwnerOf(shard) {
			w.t.Fatalf("seed %d: shard %d is not led by %s\n%s", w.seed, shard, w.ring.OwnerOf(shard), w.story())
		}
		led[one.node]++
	}
	for _, one := range w.all {
		if n := led[one.node]; n < len(w.holders)/len(w.all) || n > (len(w.holders)+len(w.all)-1)/len(w.all) {
			w.t.Fatalf("seed %d: of %d shards and %d coordinators %s leads %d", w.seed, len(w.holders), len(w.all), one.node, n)
		}
		if !slices.Equal(one.shards(), w.held(one)) {
			w.t.Fatalf("seed %d: %s believes to lead %v, and leads %v", w.seed, one.node, one.shards(), w.held(one))
		}
	}
}

func (w *shareWorld) held(one *member) (shards []int) {
	shards = []int{}
	for shard, holder := range w.holders {
		if holder == one {
			shards = append(shards, shard)
		}
	}
	return shards
}

// While there is no ring everybody goes on as they are.
func TestWithoutARingNothingMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 8)
		first := w.join()
		w.join()
		for range 2 * beatsOfRest { // nobody learns of the ring
			w.beat()
			for _, one := range w.all {
				if shards := one.surplus(time.Now()); len(shards) > 0 {
					t.Fatalf("%s hands %v over", one.node, shards)
				}
			}
		}
		if held := w.held(first); len(held) != 8 {
			t.Errorf("the first leads %v; want all", held)
		}
	})
}

// One whose ring is old hands nothing over; what is handed to others does not get stuck with it, and what nobody else wants it leads.
func TestAnOldRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 8)
		old := w.join()
		w.settle()
		fresh := w.join()
		fresh.allot(w.ring, w.at)
		w.evolve()
		fresh.allot(w.ring, w.at)
		old.allot(w.ring, version{w.at.Incarnation, w.at.Epoch - 1}) // it gives some to the fresh one
		w.hear()
		for range 2 * beatsOfRest {
			w.beat()
			if shards := old.surplus(time.Now()); len(shards) > 0 {
				t.Fatalf("one whose ring is old hands %v over", shards)
			}
		}
		if !old.passes(0) {
			t.Error("it keeps what it is granted, though the other one knows whose it is")
		}
		if old.passes(0) {
			t.Error("what comes back it passes on for ever: nobody would lead")
		}
		w.die(fresh)
		for range beatsMissed + 1 {
			w.beat()
		}
		if old.passes(1) {
			t.Error("it passes on what nobody else is there for")
		}
	})
}

// A shard is not handed to somebody who does not know yet that it is his: he would pass it on.
func TestWhoDoesNotKnowIsGivenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 8)
		first := w.join()
		w.settle()
		second := w.join()
		first.allot(w.ring, w.at)
		w.hear()
		if shards := first.surplus(time.Now()); len(shards) > 0 {
			t.Fatalf("it hands %v over", shards)
		}
		second.allot(w.ring, w.at)
		w.hear()
		if shards := first.surplus(time.Now()); len(shards) != 4 {
			t.Fatalf("it hands %v over; want four", shards)
		}
		if shards := first.surplus(time.Now()); len(shards) > 0 {
			t.Fatalf("it hands %v over again", shards)
		}
	})
}

// A shard that comes back because nobody took it is not handed over again at once, for ever.
func TestWhatNobodyTakesRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 1)
		one := w.join()
		w.settle()
		other := w.join()
		theirs, err := ring.New(1, []ring.Node{{Name: other.node, Weight: 1}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.at.Epoch++
		for _, m := range []*member{other, one} {
			m.allot(theirs, w.at)
			w.hear()
		}
		if shards := one.surplus(time.Now()); len(shards) != 1 {
			t.Fatalf("it hands %v over; want the shard", shards)
		}
		one.set(0, leads) // the lease came back
		for range beatsOfRest - 1 {
			w.beat()
			if shards := one.surplus(time.Now()); len(shards) > 0 {
				t.Fatalf("it hands %v over, which nobody took a moment ago", shards)
			}
		}
		w.beat()
		w.beat()
		if shards := one.surplus(time.Now()); len(shards) != 1 {
			t.Fatalf("it hands %v over; want that it tries again", shards)
		}
	})
}

// Nobody goes back to an earlier ring.
func TestALaterRingStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 4)
		one := w.join()
		none, at := w.ring, w.at
		w.join()
		one.allot(w.ring, w.at)
		later := w.ring
		one.allot(none, at)
		one.allot(none, version{Incarnation: 0, Epoch: 100})
		if one.ring != later || one.at != w.at {
			t.Errorf("it goes by ring %v; want %v", one.at, w.at)
		}
	})
}

// Who stops hands everything over anyway, and not by the ring.
func TestWhoLeavesSharesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 8)
		first, second := w.join(), w.join()
		first.allot(w.ring, w.at)
		second.allot(w.ring, w.at)
		w.hear()
		first.share.leave()
		if shards := first.surplus(time.Now()); len(shards) > 0 {
			t.Errorf("it hands %v over", shards)
		}
	})
}

// Two processes of one name are a mistake, and hand each other nothing.
func TestTwoOfOneName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newShareWorld(t, 0, 4)
		one := w.join()
		w.settle()
		one.note(&beat{ID: "another", Name: one.name, Ring: one.at})
		if shards := one.surplus(time.Now()); len(shards) > 0 || one.passes(0) {
			t.Errorf("it hands %v over to itself", shards)
		}
	})
}

func TestNodeName(t *testing.T) {
	for _, name := range []string{"coordinator-1", "a", strings.Repeat("x", messages.MaxName)} {
		if got := nodeName(name); got != name {
			t.Errorf("%q became %q", name, got)
		}
	}
	seen := make(map[string]bool)
	for _, name := range []string{"db1.example.org-data", "db1_example_org-data", "db1 example.org-data", "db1.example.org-data/", "", "ä", strings.Repeat("x", 65), strings.Repeat("x", 66), "\xff"} {
		got := nodeName(name)
		if !messages.ValidName(got) || seen[got] {
			t.Errorf("%q became %q, which is not valid or another's", name, got)
		}
		seen[got] = true
	}
}
