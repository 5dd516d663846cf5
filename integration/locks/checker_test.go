// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/assent-tx/assent/integration/locks/history"
	"github.com/assent-tx/assent/locks"
)

// Histories by hand, legal and not: a checker that never finds anything would pass every test.

// tale is a history of one process in short. The clock is the number of the line.
type tale []history.Line

// at appends a line.
func (l tale) at(at int64, line history.Line) tale {
	line.At = at
	return append(l, line)
}

// locks is a Lock that was granted.
func (l tale) locks(op uint64, call, ret int64, token uint64) tale {
	return l.asks(history.Lock, false, op, call, ret, history.Held, token)
}

func (l tale) shares(op uint64, call, ret int64, token uint64) tale {
	return l.asks(history.Lock, true, op, call, ret, history.Held, token)
}

func (l tale) asks(kind history.Kind, shared bool, op uint64, call, ret int64, result history.Result, sequence uint64) tale {
	var token string
	if sequence != 0 {
		token = locks.Token{Incarnation: 1, Sequence: sequence}.String()
	}
	return l.at(call, history.Line{Op: op, Kind: kind, Key: "k", Shared: shared}).
		at(ret, history.Line{Op: op, Kind: kind, Result: result, Token: token})
}

func (l tale) unlocks(op, of uint64, call, ret int64, result history.Result) tale {
	return l.calls(history.Unlock, op, of, call, ret, result)
}

func (l tale) writes(op, of uint64, call, ret int64, result history.Result) tale {
	return l.calls(history.Write, op, of, call, ret, result)
}

func (l tale) calls(kind history.Kind, op, of uint64, call, ret int64, result history.Result) tale {
	return l.at(call, history.Line{Op: op, Kind: kind, Of: of}).at(ret, history.Line{Op: op, Kind: kind, Result: result})
}

func (l tale) uses(of uint64, at int64) tale {
	return l.at(at, history.Line{Kind: history.Use, Of: of})
}

const (
	noOrder  = "no order of grants"
	noWrites = "no order of writes"
	both     = "both held it"
	nobody   = "nobody held it"
)

// tales are histories of one or more processes, with what is wrong with them.
var tales = []struct {
	name  string
	wrong string // "": nothing
	of    []tale
}{
	{"one after the other", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 4, 5, history.Released),
		tale{}.locks(1, 1, 7, 11).uses(1, 8).unlocks(2, 1, 9, 10, history.Released)}},
	{"handed on while the unlock is on its way", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 4, 9, history.Released),
		tale{}.locks(1, 1, 6, 11).uses(1, 7).unlocks(2, 1, 8, 10, history.Released)}},
	{"two holders", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 7, 8, history.Released),
		tale{}.locks(1, 1, 5, 11).unlocks(2, 1, 6, 9, history.Released)}},
	{"two believe", both, []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 6),
		tale{}.locks(1, 1, 5, 11).uses(1, 7).unlocks(2, 1, 8, 9, history.Released)}},
	{"two believe though both were unlocked late", both, []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 6).unlocks(2, 1, 20, 21, history.Unknown),
		tale{}.locks(1, 1, 5, 11).uses(1, 7).unlocks(2, 1, 8, 9, history.Released)}},
	{"granted before its predecessor knew", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 6),
		tale{}.locks(1, 3, 5, 11).unlocks(2, 1, 8, 9, history.Released)}},
	{"killed while holding", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3),
		tale{}.locks(1, 1, 5, 11).uses(1, 6).unlocks(2, 1, 7, 8, history.Released)}},
	{"a token that goes back", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released),
		tale{}.locks(1, 5, 6, 9).unlocks(2, 1, 7, 8, history.Released)}},
	{"a token twice", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released),
		tale{}.locks(1, 5, 6, 10).unlocks(2, 1, 7, 8, history.Released)}},
	{"a token that goes back after an expiry", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10), tale{}.locks(1, 5, 6, 9)}},
	{"the tokens say who was first", "", []tale{
		tale{}.locks(1, 1, 10, 11).unlocks(2, 1, 11, 12, history.Released),
		tale{}.locks(1, 2, 3, 10).unlocks(2, 1, 4, 5, history.Released)}},
	{"a release of what is lost", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 8, 9, history.Released),
		tale{}.locks(1, 1, 5, 11).unlocks(2, 1, 6, 7, history.Released)}},
	{"told that it is lost", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 8, 9, history.Lost),
		tale{}.locks(1, 1, 5, 11).unlocks(2, 1, 6, 7, history.Released)}},
	{"told that it is lost when nobody has it", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 8, 9, history.Lost)}},
	{"released and then told that it was not held", "", []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released).unlocks(3, 1, 5, 6, history.NotHeld)}},
	{"released twice", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released).unlocks(3, 1, 5, 6, history.Released)}},
	{"told that it was not held, and then released", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.NotHeld).unlocks(3, 1, 5, 6, history.Released)}},
	{"an unlock of which nothing is known, and the next", "", []tale{
		tale{}.locks(1, 1, 2, 10).uses(1, 3).unlocks(2, 1, 4, 5, history.Unknown),
		tale{}.locks(1, 1, 6, 11).unlocks(2, 1, 7, 8, history.Released)}},
	{"sharing", "", []tale{
		tale{}.shares(1, 1, 2, 10).uses(1, 5).unlocks(2, 1, 6, 7, history.Released),
		tale{}.shares(1, 1, 3, 10).uses(1, 8).unlocks(2, 1, 9, 10, history.Released),
		tale{}.shares(1, 4, 5, 12).uses(1, 8).unlocks(2, 1, 9, 10, history.Released)}},
	{"sharing with a writer", noOrder, []tale{
		tale{}.shares(1, 1, 2, 10).uses(1, 5).unlocks(2, 1, 6, 7, history.Released),
		tale{}.locks(1, 1, 3, 11).unlocks(2, 1, 4, 8, history.Released)}},
	{"a reader with a writer's token", noOrder, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released),
		tale{}.shares(1, 5, 6, 10)}},
	{"a writer with a reader's token", noOrder, []tale{
		tale{}.shares(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released),
		tale{}.locks(1, 5, 6, 10)}},
	{"a resource that compares", "", []tale{
		tale{}.locks(1, 1, 2, 10).writes(2, 1, 3, 4, history.Accepted).writes(3, 1, 10, 11, history.Refused),
		tale{}.locks(1, 1, 5, 11).writes(2, 1, 6, 7, history.Accepted)}},
	{"a resource that does not compare", noWrites, []tale{
		tale{}.locks(1, 1, 2, 10).writes(2, 1, 3, 4, history.Accepted).writes(3, 1, 10, 11, history.Accepted),
		tale{}.locks(1, 1, 5, 11).writes(2, 1, 6, 7, history.Accepted)}},
	{"a resource that refuses the newest", noWrites, []tale{
		tale{}.locks(1, 1, 2, 10).writes(2, 1, 3, 4, history.Refused)}},
	{"a write of which nothing is known explains a refusal", "", []tale{
		tale{}.locks(1, 1, 2, 10).writes(2, 1, 10, 11, history.Refused),
		tale{}.locks(1, 1, 5, 11).writes(2, 1, 6, 7, history.Unknown)}},
	{"refused because somebody held it", "", []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 5, 6, history.Released),
		tale{}.asks(history.Try, false, 1, 6, 7, history.Refused, 0)}},
	{"refused because somebody was killed", "", []tale{
		tale{}.locks(1, 1, 2, 10), tale{}.asks(history.Try, false, 1, 6, 7, history.Refused, 0)}},
	{"refused because somebody waited", "", []tale{
		tale{}.asks(history.Lock, false, 1, 1, 5, history.NotHeld, 0),
		tale{}.asks(history.Try, false, 1, 4, 7, history.Refused, 0)}},
	{"refused because somebody wanted several at once and did not get all", "", []tale{
		tale{}.asks(history.Try, false, 1, 3, 6, history.NotHeld, 0),
		tale{}.asks(history.Try, false, 1, 4, 7, history.Refused, 0)}},
	{"refused because of one who lost his session while he waited", "", []tale{
		tale{}.asks(history.Lock, false, 1, 1, 2, history.Lost, 0),
		tale{}.asks(history.Try, false, 1, 1e10, 2e10, history.Refused, 0)}},
	{"refused because another was refused", nobody, []tale{
		tale{}.asks(history.Try, false, 1, 3, 6, history.Refused, 0),
		tale{}.asks(history.Try, false, 1, 4, 7, history.Refused, 0)}},
	{"refused for nothing", nobody, []tale{
		tale{}.locks(1, 1, 2, 10).unlocks(2, 1, 3, 4, history.Released),
		tale{}.asks(history.Try, false, 1, 6, 7, history.Refused, 0)}},
	{"a reader refused because of a reader", nobody, []tale{
		tale{}.shares(1, 1, 2, 10).unlocks(2, 1, 8, 9, history.Released),
		tale{}.asks(history.Try, true, 1, 6, 7, history.Refused, 0)}},
}

func TestCheckerTellsLegalFromIllegal(t *testing.T) {
	for _, test := range tales {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			s := &story{}
			for i, lines := range test.of {
				if err := s.add(fmt.Sprintf("p%d", i), lines); err != nil {
					t.Fatal(err)
				}
			}
			err := s.check("")
			if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("want %q, got %v", test.wrong, err)
			}
		})
	}
}

// A long legal history, with processes that are killed all the time, is judged quickly; one change that breaks it is found.
func TestCheckerOnLongHistories(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const processes, rounds = 12, 3000
	build := func() (*story, *grant) {
		all := make([]tale, processes)
		ops := make([]uint64, processes)
		waits := make([]int64, processes) // from when on each may ask
		for round := range int64(rounds) {
			now := round * 100
			p := random.IntN(processes)
			for waits[p] > now { // it is still giving back
				p = (p + 1) % processes
			}
			ops[p]++
			op := ops[p]
			all[p] = all[p].locks(op, max(waits[p], now-1000), now+10, uint64(round)+1).uses(op, now+20)
			if random.IntN(20) != 0 { // else it is killed
				ops[p]++
				all[p] = all[p].unlocks(ops[p], op, now+30, now+90+random.Int64N(300), history.Released)
				waits[p] = now + 400
			}
		}
		s := &story{}
		for p, lines := range all {
			if err := s.add(fmt.Sprintf("p%d", p), lines); err != nil {
				t.Fatal(err)
			}
		}
		return s, s.grants[len(s.grants)/2]
	}
	s, _ := build()
	if err := s.check(""); err != nil {
		t.Error(err)
	}
	s, odd := build()
	odd.token.Sequence += 5
	if err := s.check(""); err == nil || !strings.Contains(err.Error(), noOrder) {
		t.Errorf("a token that jumps: %v", err)
	}
}
