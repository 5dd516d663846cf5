// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent/locks/internal/record"
)

var (
	simulations = flag.Int("sim.runs", 20_000, "how many simulations of TestSimulation")
	simulation  = flag.Uint64("sim.seed", 0, "the one simulation to run, with its log")
)

// world is a few sessions, one key, and a network and a server that do everything that they may do.
type world struct {
	t      *testing.T
	random *rand.Rand
	now    int64
	faults bool
	log    []string

	versions []version // of the record, oldest first
	sessions []*session
	pending  []func() // what is under way: messages, requests, answers
	next     int
	// newest is the greatest token granted; exclusive the greatest of an exclusive grant.
	newest, exclusive uint64
}

type version struct {
	revision uint64
	record   record.Record
}

type session struct {
	id    string
	agent *Agent
	dead  bool
	ops   map[string]*op
}

type op struct {
	record.Operation
	granted, left, over bool
	// forced is the version in which somebody took it away by force, 0 if none. clear: its giving back was under way then, and
	// either may be told.
	forced uint64
	clear  bool
	token  uint64
	// reason: at some time since it came it could not have been had.
	reason bool
}

// taken tells whether it was taken away by force after it was granted.
func (o *op) taken() bool { return o.forced > o.token }

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, random: rand.New(rand.NewPCG(seed, 1)), faults: true, versions: []version{{}}}
	for i := range 2 + w.random.IntN(3) {
		w.sessions = append(w.sessions, w.open(i))
	}
	return w
}

func (w *world) open(i int) *session {
	id := fmt.Sprintf("%c%d", 'A'+i, len(w.sessions))
	return &session{id: id, ops: make(map[string]*op), agent: New(Config{Self: id, Poll: 10, Answer: 4, Persist: 5, Patience: 2})}
}

func (w *world) head() *version { return &w.versions[len(w.versions)-1] }

func (w *world) chance(n int) bool { return w.random.IntN(n) == 0 }

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-150):], "\n"))
}

func brief(r *record.Record) string {
	var b strings.Builder
	if r == nil {
		return ""
	}
	for i := range r.Holders {
		fmt.Fprintf(&b, " %s:%d", r.Holders[i].ID, r.Holders[i].Token)
	}
	b.WriteString(" |")
	for i := range r.Queue {
		b.WriteString(" " + r.Queue[i].ID)
	}
	return b.String()
}

// carry does what a session's agent asks for, later.
func (w *world) carry(s *session, effects []Effect) {
	for _, e := range effects {
		switch {
		case e.Write != nil:
			w.write(s, e.Write)
		case e.Read:
			w.read(s)
		case e.Ask != nil:
			w.send(s, e.To, fmt.Sprintf("ask %v leave %v @%d", ids(e.Ask.Join), e.Ask.Leave, e.Ask.Revision), func(to *session) []Effect { return to.agent.Asked(w.now, e.Ask) })
		case e.Tell != nil:
			w.send(s, e.To, fmt.Sprintf("tell @%d keeper %s%s noted %v refused %v hand %v", e.Tell.Revision, e.Tell.Keeper, brief(e.Tell.Record), e.Tell.Noted, e.Tell.Refused, ids(e.Tell.Join)), func(to *session) []Effect { return to.agent.Told(w.now, e.Tell) })
		case e.Granted != nil:
			w.granted(s, e.Granted)
		case e.Ended != nil:
			w.ended(s, e.Ended)
		}
	}
}

func ids(ops []record.Operation) (list []string) {
	for i := range ops {
		list = append(list, ops[i].ID)
	}
	return list
}

func (w *world) later(f func()) { w.pending = append(w.pending, f) }

func (w *world) send(from *session, to, what string, deliver func(*session) []Effect) {
	if to == from.id {
		w.fail("%s sends to itself: %s", to, what)
	}
	w.logf("%s -> %s: %s", from.id, to, what)
	times := 1
	if w.faults && w.chance(8) {
		times = w.random.IntN(3)
	}
	for range times {
		w.later(func() {
			for _, s := range w.sessions {
				if s.id == to && !s.dead {
					w.logf("%s hears: %s", to, what)
					w.carry(s, deliver(s))
				}
			}
		})
	}
}

// write lets the server decide at some time, and the answer come at some later time, or never, or before the write is done.
func (w *world) write(s *session, write *Write) {
	w.logf("%s writes on %d:%s", s.id, write.Expected, brief(&write.Record))
	lost := w.faults && w.chance(10)
	answer := func(f func() []Effect) {
		if lost {
			return
		}
		w.later(func() {
			if !s.dead {
				w.carry(s, f())
			}
		})
	}
	if lost {
		w.later(func() {
			if !s.dead {
				w.logf("%s hears nothing of its write on %d", s.id, write.Expected)
				w.carry(s, s.agent.Unknown(w.now))
			}
		})
		if w.chance(3) {
			return // it never arrives
		}
	}
	if w.faults && w.chance(40) {
		w.logf("refused")
		answer(func() []Effect { return s.agent.Refused(w.now) })
		return
	}
	w.later(func() {
		if w.head().revision != write.Expected {
			w.logf("conflict of %s on %d", s.id, write.Expected)
			answer(func() []Effect { return s.agent.Conflict(w.now) })
			return
		}
		revision := w.store(s, write)
		answer(func() []Effect { return s.agent.Written(w.now, revision) })
	})
}

func (w *world) store(s *session, write *Write) uint64 {
	w.next += 1 + w.random.IntN(3)
	revision := uint64(w.next)
	data := write.Record.Encode()
	r, err := record.Decode(data, revision)
	if err != nil {
		w.fail("%v", err)
	}
	w.check(&w.head().record, &r)
	w.logf("%s stored %d:%s", s.id, revision, brief(&r))
	w.versions = append(w.versions, version{revision, r})
	for _, s := range w.sessions {
		s.refusedBy(&r)
	}
	return revision
}

// refusedBy notes which of a session's tries a version refuses, which it says is the newest.
func (s *session) refusedBy(r *record.Record) {
	for _, o := range s.ops {
		with := r.Clone()
		o.reason = o.reason || o.Try && errors.Is(with.Join(o.Operation), record.ErrBusy)
	}
}

// check checks a version against the one before.
func (w *world) check(before, r *record.Record) {
	seen := make(map[string]bool)
	for i := range r.Holders {
		h := &r.Holders[i]
		if seen[h.ID] || r.Permits == 0 && len(r.Holders) > 1 && !h.Shared || r.Permits > 0 && len(r.Holders) > r.Permits {
			w.fail("holders that may not hold together:%s", brief(r))
		}
		if old := before.Holder(h.ID); old != nil && old.Token != h.Token {
			w.fail("the token of %s changes from %d to %d", h.ID, old.Token, h.Token)
		}
		seen[h.ID] = true
	}
	last := -1
	for i := range r.Queue {
		id := r.Queue[i].ID
		if seen[id] {
			w.fail("%s is in the record twice:%s", id, brief(r))
		}
		seen[id] = true
		if ahead := before.Ahead(id); ahead >= 0 {
			if ahead < last && !w.withdrawn(id) {
				w.fail("%s overtakes:%s", id, brief(r))
			}
			last = ahead
		} else {
			last = len(before.Queue)
		}
	}
}

// withdrawn tells whether an operation's user does not want it any more; late messages may let it in again for a while.
func (w *world) withdrawn(id string) bool {
	for _, s := range w.sessions {
		if o := s.ops[id]; o != nil && o.left {
			return true
		}
	}
	return false
}

func (w *world) read(s *session) {
	w.logf("%s reads", s.id)
	w.later(func() {
		v := *w.head()
		if w.faults && w.chance(15) { // a server that was deposed
			v = w.versions[max(0, len(w.versions)-1-w.random.IntN(2))]
		}
		s.refusedBy(&v.record)
		r := v.record.Clone()
		lost := w.faults && w.chance(15)
		w.later(func() {
			if s.dead {
				return
			}
			if lost {
				w.carry(s, s.agent.ReadFailed(w.now))
				return
			}
			w.logf("%s read %d:%s", s.id, v.revision, brief(&r))
			w.carry(s, s.agent.Read(w.now, v.revision, r))
		})
	})
}

func (w *world) granted(s *session, g *Granted) {
	o := s.ops[g.ID]
	w.logf("%s GRANTED %s token %d", s.id, g.ID, g.Token)
	if o == nil || o.granted || o.over || o.left {
		w.fail("%s granted out of turn", g.ID)
	}
	o.granted, o.token = true, g.Token
	if o.taken() { // it is told late that it held
		return
	}
	w.checkHolders(o)
	if o.Permits == 0 {
		if !o.Shared && g.Token <= w.newest || o.Shared && g.Token <= w.exclusive {
			w.fail("token %d of %s after %d, exclusive %d", g.Token, o.ID, w.newest, w.exclusive)
		}
	}
	w.newest = max(w.newest, g.Token)
	if !o.Shared {
		w.exclusive = max(w.exclusive, g.Token)
	}
}

// checkHolders checks that those who hold now may hold together with an operation.
func (w *world) checkHolders(o *op) {
	holders := 0
	for _, s := range w.sessions {
		for _, p := range s.ops {
			if s.dead || !p.granted || p.left || p.over || p.taken() {
				continue
			}
			holders++
			if p != o && o.Permits == 0 && (!p.Shared || !o.Shared) {
				w.fail("%s and %s hold at once", o.ID, p.ID)
			}
		}
	}
	if o.Permits > 0 && holders > o.Permits {
		w.fail("%d hold at once", holders)
	}
}

func (w *world) ended(s *session, e *Ended) {
	o := s.ops[e.ID]
	w.logf("%s ENDED %s %q", s.id, e.ID, e.Why)
	if o == nil || o.over {
		w.fail("%s ends twice", e.ID)
	}
	if e.Why == Gone || e.Why == Forced && o.forced == 0 {
		w.fail("%s lost, though its session lives and nobody used force", e.ID)
	}
	if e.Why == "" && o.taken() && o.granted && !o.clear {
		w.fail("%s is said to be given back, and was taken away by force", e.ID)
	}
	if e.Why == "" && !o.left {
		w.fail("%s ends of itself", e.ID)
	}
	if e.Why != "" && e.Why != Unwritten && e.Why != Busy && e.Why != Forced {
		w.fail("%s ends with %q", e.ID, e.Why)
	}
	if e.Why == Busy && !o.Try {
		w.fail("%s is busy and wanted to wait", e.ID)
	}
	if e.Why == Busy && !o.reason && !w.wanted(o) {
		w.fail("%s is refused, and could have been had at any time since it came", e.ID)
	}
	o.over = true
	if e.Why == "" && o.granted && !w.wasWithout(o) {
		w.fail("%s is said to be given back, and it was not:%s", e.ID, brief(&w.head().record))
	}
}

// wanted tells whether another operation waits, or believes that it holds: who waits is in no version yet when the keeper has just heard of him, and who
// was forced out may not know. The last permit of a semaphore may be asked for by another try.
func (w *world) wanted(o *op) bool {
	return slices.ContainsFunc(w.sessions, func(s *session) bool {
		for _, p := range s.ops {
			if p != o && !p.over && (!p.Try || p.granted || p.Permits > 0) {
				return true
			}
		}
		return false
	})
}

// wasWithout tells whether a version after an operation's grant did not have it. A message that is late may let it in
// again; then its session finds it there, and takes it out.
func (w *world) wasWithout(o *op) bool {
	return slices.ContainsFunc(w.versions, func(v version) bool { return v.revision > o.token && !v.record.Has(o.ID) })
}

// act is one thing that a user does.
func (w *world) act(s *session, permits int) {
	if w.chance(2) && len(s.ops) < 6 {
		o := &op{Operation: record.Operation{
			ID: fmt.Sprintf("%s-%d", s.id, len(s.ops)), Shared: permits == 0 && w.chance(2), Try: w.chance(4), Permits: permits,
		}}
		s.ops[o.ID] = o
		s.refusedBy(&w.head().record)
		w.logf("%s joins, shared %v, try %v", o.ID, o.Shared, o.Try)
		w.carry(s, s.agent.Join(w.now, o.Operation))
		return
	}
	for _, id := range sortedOps(s) {
		if o := s.ops[id]; !o.over && !o.left && (o.granted || w.chance(4)) {
			w.leave(s, o)
			return
		}
	}
}

func sortedOps(s *session) []string {
	var list []string
	for id := range s.ops {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

func (w *world) leave(s *session, o *op) {
	o.left = true
	w.logf("%s leaves", o.ID)
	w.carry(s, s.agent.Leave(w.now, o.ID, false))
}

// force takes the key from its holders, as an operator does, and tells those concerned, who may not hear it.
func (w *world) force() {
	if !w.faults || len(w.head().record.Holders) == 0 {
		return
	}
	before := w.head().record.Clone()
	after := before.Clone()
	after.Force()
	w.logf("FORCE")
	revision := w.store(&session{id: "operator"}, &Write{Expected: w.head().revision, Record: after})
	for _, s := range w.sessions {
		for _, o := range s.ops {
			if before.Holder(o.ID) != nil {
				o.forced, o.clear = revision, o.left
			}
		}
	}
	r := w.head().record.Clone()
	for _, s := range w.sessions {
		if !s.dead {
			w.send(&session{id: "operator"}, s.id, "told of force", func(to *session) []Effect {
				return to.agent.Told(w.now, &Tell{Revision: revision, Record: &r})
			})
		}
	}
}

// deaths kills a session, and lets those who watch a dead one hear of it.
func (w *world) deaths() {
	for i, s := range w.sessions {
		if !s.dead && w.faults && w.chance(200) {
			w.logf("%s DIES", s.id)
			s.dead = true
			w.sessions = append(w.sessions, w.open(i))
			return
		}
		if s.dead {
			continue
		}
		for _, watched := range s.agent.Watch() {
			for _, d := range w.sessions {
				if d.id == watched.Session && d.dead && w.chance(3) {
					w.logf("%s hears that %s is dead", s.id, d.id)
					w.carry(s, s.agent.Died(w.now, d.id))
				}
			}
		}
	}
}

func (w *world) deliver() {
	if len(w.pending) == 0 {
		return
	}
	i := 0
	if w.chance(3) {
		i = w.random.IntN(len(w.pending))
	}
	f := w.pending[i]
	w.pending = slices.Delete(w.pending, i, i+1)
	f()
}

func (w *world) tick() {
	w.now += 1 + w.random.Int64N(3)
	for _, s := range w.sessions {
		if !s.dead {
			w.carry(s, s.agent.Tick(w.now))
		}
	}
}

// run is a life with faults, and then a time without, in which everything must come to a good end.
func (w *world) run() {
	permits := 0
	if w.chance(4) {
		permits = 2
	}
	for range 150 + w.random.IntN(300) {
		switch w.random.IntN(8) {
		case 0, 1:
			if s := w.sessions[w.random.IntN(len(w.sessions))]; !s.dead {
				w.act(s, permits)
			}
		case 2:
			w.tick()
		case 3:
			w.deaths()
			if w.chance(40) {
				w.force()
			}
		default:
			w.deliver()
		}
	}
	w.faults = false
	w.logf("no more faults")
	for i := 0; !w.quiet(); i++ {
		if i > 5000 {
			w.fail("it does not come to an end:%s; open: %v", brief(&w.head().record), w.unended())
		}
		w.settle()
	}
	if !w.head().record.Free() {
		w.fail("somebody holds who is not there:%s", brief(&w.head().record))
	}
}

// unended are the operations whose sessions live and that have not ended.
func (w *world) unended() (list []string) {
	for _, s := range w.sessions {
		for _, id := range sortedOps(s) {
			if o := s.ops[id]; !s.dead && !o.over {
				list = append(list, fmt.Sprintf("%s granted %v left %v taken %v", id, o.granted, o.left, o.taken()))
			}
		}
	}
	return list
}

// settle lets every holder leave, and everything under way arrive.
func (w *world) settle() {
	for _, s := range w.sessions {
		if s.dead {
			continue
		}
		for _, id := range sortedOps(s) {
			if o := s.ops[id]; o.granted && !o.left && !o.over {
				w.leave(s, o)
			}
		}
	}
	w.deliver()
	w.deaths()
	if w.chance(4) {
		w.tick()
	}
}

func (w *world) quiet() bool {
	for _, s := range w.sessions {
		if s.dead {
			continue
		}
		if !s.agent.Idle() {
			return false
		}
		for _, o := range s.ops {
			if !o.over {
				return false
			}
		}
	}
	if !w.head().record.Free() && len(w.pending) == 0 {
		// Nobody wants it any more; whoever comes next finds out that its holder is gone.
		w.sessions = append(w.sessions, w.open(len(w.sessions)%26))
		s := w.sessions[len(w.sessions)-1]
		o := &op{Operation: record.Operation{ID: s.id + "-0", Permits: w.head().record.Permits}}
		s.ops[o.ID] = o
		w.carry(s, s.agent.Join(w.now, o.Operation))
		return false
	}
	return len(w.pending) == 0
}

// TestSimulation runs sessions against a server and a network that lose, repeat, delay and reorder, with sessions that
// die, and checks that no two hold at once, that tokens grow, that nobody overtakes, and that everybody gets there.
func TestSimulation(t *testing.T) {
	if *simulation != 0 {
		w := newWorld(t, *simulation)
		w.run()
		t.Log(strings.Join(w.log, "\n"))
		return
	}
	runs := *simulations
	if testing.Short() {
		runs /= 10
	}
	for seed := uint64(1); seed <= uint64(runs); seed++ {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { newWorld(t, seed).run() })
		if t.Failed() {
			t.Fatalf("again: go test ./locks/internal/agent -run TestSimulation -sim.seed %d", seed)
		}
	}
}
