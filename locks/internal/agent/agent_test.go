// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"testing"

	"github.com/assent-tx/assent/locks/internal/record"
)

// A version that somebody else holds.
func heldBy(id string, token uint64) record.Record {
	return record.Record{V: record.Version, Holders: []record.Holder{{Operation: record.Operation{ID: id}, Token: token}}}
}

// What was asked for before a try came says nothing about whether the key could be had since: the answer may be late, and the key
// free by then. So the try is not refused by it, and what is stored is asked for once more.
func TestATryIsRefusedByNothingOlder(t *testing.T) {
	try := record.Operation{ID: "A-9", Try: true}
	for _, test := range []struct {
		name string
		// late is what came before the try, and gives what comes to the agent after it.
		late func(a *Agent) (answer func() []Effect)
	}{
		{"a read", func(a *Agent) func() []Effect {
			a.Join(1, record.Operation{ID: "A-1", Try: true}) // writes, on a guess
			a.Conflict(2)                                     // reads
			return func() []Effect { return a.Read(4, 7, heldBy("B-1", 7)) }
		}},
		{"a read of a key that is known", func(a *Agent) func() []Effect {
			a.Join(1, record.Operation{ID: "A-1"})
			a.Conflict(2)
			a.Read(3, 5, heldBy("B-1", 5))
			a.Leave(3, "A-1", true)
			a.Join(3, record.Operation{ID: "A-2", Try: true}) // reads, because what is known may be old
			return func() []Effect { return a.Read(4, 7, heldBy("B-2", 7)) }
		}},
		{"a write", func(a *Agent) func() []Effect {
			a.Join(1, record.Operation{ID: "A-1"})
			a.Written(2, 5)
			a.Asked(3, &Ask{From: "B", Revision: 5, Join: []record.Operation{{ID: "B-1"}}})
			a.Leave(3, "A-1", false) // writes that B holds
			return func() []Effect { return a.Written(4, 7) }
		}},
		{"a message", func(a *Agent) func() []Effect {
			return func() []Effect { // a read for the try is under way
				held := heldBy("B-1", 7)
				a.Told(4, &Tell{From: "B", Revision: 7, Record: &held})
				a.ReadFailed(4)
				return a.Tick(5)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := New(Config{Self: "A", Poll: 10, Answer: 4, Persist: 5, Patience: 2})
			answer := test.late(a)
			effects := a.Join(4, try)
			if test.name == "a message" {
				effects = a.Conflict(4)
			}
			effects = append(effects, answer()...)
			reads := false
			for _, e := range effects {
				if e.Ended != nil && e.Ended.ID == try.ID {
					t.Fatalf("refused: %q, by %+v", e.Ended.Why, e.Ended.Record)
				}
				reads = reads || e.Read
			}
			if !reads {
				t.Fatalf("it does not read: %+v", effects)
			}
			effects = a.Read(6, 8, record.Record{V: record.Version})
			if len(effects) != 1 || effects[0].Write == nil || effects[0].Write.Expected != 8 || effects[0].Write.Record.Holder(try.ID) == nil {
				t.Fatalf("it is free, and not taken: %+v", effects)
			}
			if granted := a.Written(7, 9)[0].Granted; granted == nil || granted.ID != try.ID {
				t.Fatalf("granted: %+v", granted)
			}
		})
	}
}

// What was asked for after it came refuses it, at once.
func TestATryIsRefusedByWhatIsRead(t *testing.T) {
	a := New(Config{Self: "A", Poll: 10, Answer: 4, Persist: 5, Patience: 2})
	a.Join(1, record.Operation{ID: "A-1", Try: true})
	a.Conflict(2)
	for _, e := range a.Read(3, 7, heldBy("B-1", 7)) {
		if e.Ended != nil && e.Ended.ID == "A-1" && e.Ended.Why == Busy {
			return
		}
	}
	t.Error("it is not refused")
}

// Who finds out that a holder is dead tells the keeper, who watches nobody while nobody waits; and once more with whatever is asked of it,
// should that have been lost.
func TestTheKeeperIsToldWhoIsDead(t *testing.T) {
	a := New(Config{Self: "A", Poll: 10, Answer: 4, Persist: 5, Patience: 2})
	shared := heldBy("B-1", 7)
	shared.Permits = 2
	shared.Holders = append(shared.Holders, record.Holder{Operation: record.Operation{ID: "C-1"}, Token: 8})
	try := record.Operation{ID: "A-1", Try: true, Permits: 2}
	a.Join(1, try)
	a.Conflict(2)
	a.Read(3, 8, shared.Clone()) // refused
	told := func(effects []Effect) bool {
		return slices.ContainsFunc(effects, func(e Effect) bool { return e.To == "B" && e.Ask != nil && slices.Equal(e.Ask.Leave, []string{"C-1"}) })
	}
	if !told(a.Died(4, "C")) {
		t.Error("the keeper is not told")
	}
	try.ID = "A-2"
	a.Join(5, try)
	if !told(a.Read(6, 8, shared.Clone())) {
		t.Error("the keeper is not told again")
	}
}
