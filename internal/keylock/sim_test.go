// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"container/heap"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// The simulation has participants with a real Table each, logs (one a shard) in which the first no or the last yes decides,
// and clients that try again. Time is virtual, in microseconds, so that a run is a function of its seed.

// policy is what is done about deadlocks.
type policy int

const (
	ours        policy = iota // an older one that has waited for the grace wounds a younger holder, also after its vote
	beforeVotes               // the same, but never after the vote: what is left ends by the time-out
	waitDie                   // who would wait for an older one is voted no
	noWait                    // who would wait is voted no
)

func (p policy) String() string {
	return []string{"wound, also after the vote", "wound before the vote", "wait-die", "no-wait"}[p]
}

// simConfig is a simulated world.
type simConfig struct {
	policy                        policy
	participants, shards, clients int
	keys, each                    int     // each transaction takes so many of the keys
	zipf                          float64 // over 1; 0: all keys are as hot
	shared                        float64 // the part of the keys that is taken shared
	each2                         int     // transactions of each client
	grace                         int64   // ms
	timeout                       int64   // µs, of a transaction
	forget                        bool    // a retry begins anew in age, to show what that does
	seed                          uint64
}

// The times of the world, in µs; each is drawn between half of it and one and a half.
const (
	appends  = 2_000 // until the log has a message
	delivers = 300   // until a message is where it goes
	handles  = 500   // a handler's call
	look     = 50_000
)

type sim struct {
	cfg    simConfig
	rnd    *rand.Rand
	zipf   *rand.Zipf
	now    int64
	events events
	parts  []*simPart
	shards []simShard
	// what came of it
	committed, aborts, timeouts, wounds int
	latencies                           []int64
	running                             int
	broken                              string
	serial                              uint32
}

type simShard struct{ appended, stamped int64 }

type simPart struct {
	table    *Table
	attempts map[messages.ID]*simBranch
	arrives  []int64 // when the last prepare of a shard arrived: they keep their order
}

// simBranch is an attempt at one participant.
type simBranch struct {
	attempt               *attempt
	part                  *simPart
	keys                  []Key
	voted, wounded, ended bool
}

type attempt struct {
	client           *simClient
	id               messages.ID
	shard            int
	branches         []*simBranch
	yes              int
	decided, commits bool
	since            int64
}

type simClient struct {
	left     int
	tries    int
	began    int64
	since    int64
	keys     map[int][]Key // by participant
	finished bool
}

type event struct {
	at  int64
	seq int
	do  func()
}
type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || (e[i].at == e[j].at && e[i].seq < e[j].seq)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) } //nolint:errcheck // nothing else is pushed
func (e *events) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}

var eventSeq int

func (s *sim) at(t int64, do func()) {
	eventSeq++
	heap.Push(&s.events, event{max(t, s.now), eventSeq, do})
}

func (s *sim) about(d int64) int64 { return d/2 + s.rnd.Int64N(d+1) }

func simulate(cfg simConfig) *sim {
	s := &sim{cfg: cfg, rnd: rand.New(rand.NewPCG(cfg.seed, 1)), shards: make([]simShard, cfg.shards)}
	if cfg.zipf > 1 {
		s.zipf = rand.NewZipf(s.rnd, cfg.zipf, 1, uint64(cfg.keys-1))
	}
	for range cfg.participants {
		p := &simPart{table: New(Config{Grace: cfg.grace}), attempts: map[messages.ID]*simBranch{}, arrives: make([]int64, cfg.shards)}
		s.parts = append(s.parts, p)
		s.at(s.about(look), func() { s.tick(p) })
	}
	s.running = cfg.clients
	for range cfg.clients {
		c := &simClient{left: cfg.each2}
		s.at(s.about(1000), func() { s.begin(c) })
	}
	const end = 3600 * 1_000_000 // nothing takes an hour
	for len(s.events) > 0 && s.running > 0 && s.broken == "" && s.now < end {
		e := heap.Pop(&s.events).(event) //nolint:errcheck // nothing else is pushed
		s.now = e.at
		e.do()
	}
	return s
}

func (s *sim) tick(p *simPart) {
	p.table.Tick(s.now / 1000)
	s.follow(p)
	s.at(s.now+look, func() { s.tick(p) })
}

// begin begins a client's next transaction.
func (s *sim) begin(c *simClient) {
	if c.left == 0 {
		c.finished = true
		s.running--
		return
	}
	c.left--
	c.tries, c.began, c.since, c.keys = 0, s.now, 0, map[int][]Key{}
	chosen := map[int]bool{}
	for len(chosen) < s.cfg.each {
		k := s.rnd.IntN(s.cfg.keys)
		if s.zipf != nil {
			k = int(s.zipf.Uint64())
		}
		if !chosen[k] {
			chosen[k] = true
			at := k % s.cfg.participants
			c.keys[at] = append(c.keys[at], Key{Name: string(rune('A' + k)), Shared: s.rnd.Float64() < s.cfg.shared})
		}
	}
	s.try(c)
}

func (s *sim) try(c *simClient) {
	s.serial++
	a := &attempt{client: c, shard: s.rnd.IntN(s.cfg.shards)}
	binary.BigEndian.PutUint32(a.id[12:], s.serial)
	shard := &s.shards[a.shard]
	shard.stamped = max(s.now, shard.stamped+1)
	if a.since = c.since; a.since == 0 || s.cfg.forget {
		a.since = shard.stamped
	}
	c.since = a.since
	for _, at := range slices.Sorted(func(yield func(int) bool) {
		for k := range c.keys {
			if !yield(k) {
				return
			}
		}
	}) {
		a.branches = append(a.branches, &simBranch{attempt: a, part: s.parts[at], keys: c.keys[at]})
	}
	s.append(a.shard, func() {
		for _, b := range a.branches {
			arrives := &b.part.arrives[a.shard]
			*arrives = max(*arrives, s.now+s.about(delivers))
			s.at(*arrives, func() { s.prepare(b) })
		}
		s.at(s.now+s.cfg.timeout, func() {
			if !a.decided {
				s.timeouts++
			}
			s.decide(a, false)
		})
	})
}

// append has something in a shard's log, in the order in which it is appended.
func (s *sim) append(shard int, then func()) {
	l := &s.shards[shard]
	l.appended = max(l.appended, s.now+s.about(appends))
	s.at(l.appended, then)
}

func (s *sim) prepare(b *simBranch) {
	if b.ended {
		return
	}
	age := Age{b.attempt.since, b.attempt.id}
	b.part.attempts[age.ID] = b
	if b.part.table.Request(age, b.keys, 1, s.now/1000) {
		s.handle(b)
	}
	s.die(b.part)
	s.follow(b.part)
}

// die ends those who wait and, by the policy, must not.
func (s *sim) die(p *simPart) {
	for _, w := range slices.Clone(p.table.waiting) {
		if s.cfg.policy == noWait || s.cfg.policy == waitDie && !w.granted && p.table.olderBefore(w.age.ID) {
			p.table.Release(w.age.ID)
			s.vote(p.attempts[w.age.ID], false)
		}
	}
}

// olderBefore tells whether a waiter waits for anybody older.
func (t *Table) olderBefore(id messages.ID) bool {
	b := t.branches[id]
	for i := range b.wants {
		w := &b.wants[i]
		for _, o := range append(slices.Clone(w.lock.holders), w.lock.queue[:w.lock.find(w)]...) {
			if o.conflicts(w) && o.branch.age.compare(b.age) < 0 {
				return true
			}
		}
	}
	return false
}

func (s *sim) follow(p *simPart) {
	for _, e := range slices.Clone(p.table.Take()) {
		b := p.attempts[e.ID]
		switch e.Kind {
		case Granted:
			s.handle(b)
		case Wound:
			s.wound(b)
		case Crowded:
			s.vote(b, false)
		}
	}
}

func (s *sim) wound(b *simBranch) {
	switch {
	case b.ended || s.cfg.policy == waitDie || s.cfg.policy == noWait:
	case !b.voted:
		b.wounded = true
	case s.cfg.policy == ours:
		s.wounds++
		s.vote(b, false)
	}
}

func (s *sim) handle(b *simBranch) {
	s.at(s.now+s.about(handles), func() {
		if !b.ended {
			s.vote(b, !b.wounded)
		}
	})
}

func (s *sim) vote(b *simBranch, yes bool) {
	b.voted = true
	s.append(b.attempt.shard, func() {
		a := b.attempt
		switch {
		case !yes:
			s.decide(a, false)
		case !a.decided:
			if a.yes++; a.yes == len(a.branches) {
				s.decide(a, true)
			}
		}
	})
}

func (s *sim) decide(a *attempt, commit bool) {
	if a.decided {
		return
	}
	a.decided, a.commits = true, commit
	for _, b := range a.branches {
		s.at(s.now+s.about(delivers)+s.about(handles), func() { s.finish(b) })
	}
	s.at(s.now+s.about(delivers), func() { s.told(a) })
}

func (s *sim) finish(b *simBranch) {
	known := b.part.table.branches[b.attempt.id]
	if b.attempt.commits && (known == nil || !known.granted) {
		s.broken = "a branch commits that has not its keys"
	}
	b.ended = true
	b.part.table.Release(b.attempt.id)
	delete(b.part.attempts, b.attempt.id)
	s.follow(b.part)
	s.check(b.part)
}

// check: no two holders conflict.
func (s *sim) check(p *simPart) {
	for _, l := range p.table.locks {
		if l.exclusive > 1 || (l.exclusive == 1 && len(l.holders) > 1) {
			s.broken = "two hold " + l.name
		}
	}
}

func (s *sim) told(a *attempt) {
	c := a.client
	if a.commits {
		s.committed++
		s.latencies = append(s.latencies, s.now-c.began)
		s.begin(c)
		return
	}
	s.aborts++
	most := min(int64(2000)<<min(c.tries, 20), 1_000_000)
	c.tries++
	s.at(s.now+1+s.rnd.Int64N(most), func() { s.try(c) })
}

func (s *sim) percentile(p float64) int64 {
	slices.Sort(s.latencies)
	return s.latencies[min(len(s.latencies)-1, int(p*float64(len(s.latencies))))]
}
