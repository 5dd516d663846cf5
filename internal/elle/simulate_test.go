// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// isolation is what a simulated store does.
type isolation int

const (
	serial      isolation = iota // one transaction after the other
	locking                      // strict two-phase locking
	snapshot                     // a snapshot, and the first committer wins
	noUpdates                    // a snapshot, and whoever commits last overwrites
	perPart                      // reads what is committed, appends when it commits, at each key by itself
	committedRC                  // reads what is committed, appends to what is there when it commits
	dirty                        // reads and appends at once, and takes back what it appended when it fails
)

// store is a simulated one, in which transactions take their steps in turns, as a random source has it.
type store struct {
	r       *rand.Rand
	level   isolation
	lists   map[string][]int64
	changed map[string]int // how often each list was
	locks   map[string]*simTx
	next    map[string]int64
	history *Builder
	t       *testing.T
}

// simTx is a transaction under way.
type simTx struct {
	process  int32
	ops      []Operation
	done     int
	base     map[string][]int64 // its snapshot
	versions map[string]int
	began    bool
	fails    bool // it will not commit
	unheard  bool // its client does not hear what became of it
	pending  []int
}

// simulate makes a history of so many transactions by some processes.
func simulate(t *testing.T, seed uint64, level isolation, transactions int) *History {
	t.Helper()
	s := &store{
		r: rand.New(rand.NewPCG(seed, 17)), level: level, t: t, history: NewBuilder(), lists: make(map[string][]int64),
		changed: make(map[string]int), locks: make(map[string]*simTx), next: make(map[string]int64),
	}
	processes := 1 + s.r.IntN(6)
	if level == serial {
		processes = 1
	}
	under := make([]*simTx, processes)
	for begun := 0; ; {
		p := s.r.IntN(processes)
		switch {
		case under[p] != nil:
			if s.step(under[p]) {
				under[p] = nil
			}
		case begun < transactions:
			under[p] = s.begin(int32(p))
			begun++
		case !slices.ContainsFunc(under, func(tx *simTx) bool { return tx != nil }):
			s.readAll()
			h, err := s.history.History()
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
	}
}

func (s *store) event(e *Event) {
	s.t.Helper()
	if err := s.history.Add(e); err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) begin(process int32) *simTx {
	tx := &simTx{process: process, fails: s.r.IntN(10) == 0, unheard: s.r.IntN(12) == 0}
	for range 1 + s.r.IntN(4) {
		key := string(rune('a' + s.r.IntN(4)))
		o := Operation{Op: Read, Key: key}
		if s.r.IntN(2) == 0 {
			s.next[key]++
			value := s.next[key]
			o = Operation{Op: Append, Key: key, Value: &value}
		}
		tx.ops = append(tx.ops, o)
	}
	if s.level == locking { // in one order, so that nobody waits for each other
		slices.SortStableFunc(tx.ops, func(a, b Operation) int { return int(a.Key[0]) - int(b.Key[0]) })
	}
	s.event(&Event{Type: Invoke, Process: process, Operations: slices.Clone(tx.ops)})
	return tx
}

// step is one of a transaction's, and says whether it has ended. A step may be to wait.
func (s *store) step(tx *simTx) (ended bool) {
	if !tx.began {
		tx.began, tx.base, tx.versions = true, maps.Clone(s.lists), maps.Clone(s.changed)
	}
	if tx.done < len(tx.ops) {
		s.operate(tx, &tx.ops[tx.done])
		return false
	}
	return s.commit(tx)
}

func (s *store) operate(tx *simTx, o *Operation) {
	if s.level == locking {
		if holder := s.locks[o.Key]; holder != nil && holder != tx {
			return
		}
		s.locks[o.Key] = tx
	}
	tx.done++
	switch {
	case s.level == dirty && o.Op == Append:
		s.lists[o.Key] = append(slices.Clone(s.lists[o.Key]), *o.Value)
	case s.level == dirty:
		o.Values = append([]int64{}, s.lists[o.Key]...)
	case o.Op == Read:
		list := s.lists
		if s.level == snapshot || s.level == noUpdates {
			list = tx.base
		}
		o.Values = append(append([]int64{}, list[o.Key]...), tx.own(o.Key)...)
	}
}

// own is what a transaction appended so far.
func (tx *simTx) own(key string) (own []int64) {
	for _, o := range tx.ops[:tx.done] {
		if o.Op == Append && o.Key == key {
			own = append(own, *o.Value)
		}
	}
	return own
}

func (s *store) commit(tx *simTx) (ended bool) {
	if s.level == snapshot && !tx.fails {
		for _, o := range tx.ops {
			tx.fails = tx.fails || o.Op == Append && s.changed[o.Key] != tx.versions[o.Key]
		}
	}
	if !tx.fails && s.level == perPart && !s.applyOne(tx) {
		return false
	}
	s.finish(tx)
	for key, holder := range s.locks {
		if holder == tx {
			delete(s.locks, key)
		}
	}
	switch {
	case tx.unheard:
		s.event(&Event{Type: Info, Process: tx.process})
	case tx.fails:
		s.event(&Event{Type: Fail, Process: tx.process})
	default:
		s.event(&Event{Type: OK, Process: tx.process, Operations: tx.ops})
	}
	return true
}

// applyOne applies what a transaction appends, a list at a time, in any order, and says when all is.
func (s *store) applyOne(tx *simTx) bool {
	if tx.pending == nil {
		tx.pending = s.r.Perm(len(tx.ops))
	}
	if len(tx.pending) == 0 {
		return true
	}
	key := tx.ops[tx.pending[0]].Key
	for _, o := range tx.ops {
		if o.Op == Append && o.Key == key {
			s.lists[key] = append(slices.Clone(s.lists[key]), *o.Value)
		}
	}
	rest := []int{}
	for _, i := range tx.pending {
		if tx.ops[i].Key != key {
			rest = append(rest, i)
		}
	}
	tx.pending = rest
	return false
}

// finish applies what a transaction appended, or takes it back.
func (s *store) finish(tx *simTx) {
	for _, o := range tx.ops {
		switch {
		case o.Op != Append || s.level == perPart:
		case s.level == dirty && tx.fails:
			s.lists[o.Key] = slices.DeleteFunc(slices.Clone(s.lists[o.Key]), func(v int64) bool { return v == *o.Value })
		case tx.fails || s.level == dirty:
		case s.level == noUpdates:
			s.lists[o.Key] = append(slices.Clone(tx.base[o.Key]), tx.own(o.Key)...)
		default:
			s.lists[o.Key] = append(slices.Clone(s.lists[o.Key]), *o.Value)
			s.changed[o.Key]++
		}
	}
}

// readAll reads every list in the end.
func (s *store) readAll() {
	for _, key := range slices.Sorted(maps.Keys(s.lists)) {
		s.event(&Event{Type: Invoke, Process: 99, Operations: []Operation{{Op: Read, Key: key}}})
		s.event(&Event{Type: OK, Process: 99, Operations: []Operation{{Op: Read, Key: key, Values: append([]int64{}, s.lists[key]...)}}})
	}
}

// Of a thousand serial histories, and as many of two-phase locking, none gives an alarm (in short mode of a hundred).
func TestSimulatedWithoutAlarm(t *testing.T) {
	runs := uint64(1000)
	if testing.Short() {
		runs = 100
	}
	for _, level := range []isolation{serial, locking} {
		committed := 0
		for seed := range runs {
			r := Check(simulate(t, seed, level, 40), Options{})
			committed += r.Committed
			if !r.OK() {
				t.Fatalf("level %d, seed %d: %v\n%s", level, seed, r.Counts, textOf(t, r))
			}
		}
		if committed < 20*int(runs) {
			t.Errorf("level %d: %d transactions committed: there was nothing to check", level, committed)
		}
	}
}

// Each broken store is found out, and gives the classes of anomalies that it can have, and no others.
func TestSimulatedBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		level isolation
		must  []Class // be found
		may   []Class
	}{
		{"snapshot isolation", snapshot, []Class{G2Item}, nil},
		{"lost updates", noUpdates, []Class{LostUpdate, IncompatibleOrder}, nil},
		{"read committed", committedRC, []Class{GSingle, G2Item, LostUpdate, Internal}, []Class{GNonadjacent}},
		{"each key by itself", perPart, []Class{G0, G1c, GSingle, G2Item, LostUpdate}, []Class{Internal, GNonadjacent}},
		{"dirty", dirty, []Class{G0, G1a, G1b, G1c}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := make(map[Class]int)
			for seed := range uint64(200) {
				r := Check(simulate(t, seed, c.level, 40), Options{})
				for class := range r.Counts {
					found[class]++
				}
				if len(r.Anomalies) == 0 != r.OK() {
					t.Fatalf("seed %d: %v and %d anomalies", seed, r.Counts, len(r.Anomalies))
				}
			}
			for _, class := range c.must {
				if found[class] == 0 {
					t.Errorf("found %v; want %s", found, class)
				}
			}
			if c.name == "dirty" || c.name == "lost updates" {
				return // they may have all of them
			}
			for class := range found {
				class = Class(strings.TrimSuffix(strings.TrimSuffix(string(class), Realtime), Process))
				if !slices.Contains(c.must, class) && !slices.Contains(c.may, class) {
					t.Errorf("%s was found and cannot be: %v", class, found)
				}
			}
		})
	}
}
