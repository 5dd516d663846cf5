// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
)

// smallBlocks makes a fold's memory turn over with few transactions.
func smallBlocks(f *Fold) *Fold {
	f.memory.blockSize = 2
	f.forgotten.pruneAt, f.forgotten.least = 1, 1
	return f
}

func read(t *rapid.T, f *Fold, m *genMessage) {
	e := m.encode()
	if err := f.Message(e.sequence, e.at, e.kind, e.participant, e.data); err != nil {
		t.Fatalf("%s: %v", m, err)
	}
}

func idsOf(log []genMessage) (ids []messages.ID) {
	for _, m := range log {
		for _, r := range m.records {
			if r.garbage == "" && !slices.Contains(ids, r.tx) {
				ids = append(ids, r.tx)
			}
		}
	}
	return ids
}

func describe(log []genMessage) (text string) {
	for i := range log {
		text += log[i].String() + "\n"
	}
	return text
}

// TestFoldModelProperty: after every message the fold knows what the model knows, and asked for the same effects.
func TestFoldModelProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawFoldConfig(t)
		log := drawLog(t, cfg)
		ids := idsOf(log)
		f := smallBlocks(NewFold(cfg, Checkpoint{}))
		for n := range log {
			read(t, f, &log[n])
			want := modelOf(cfg, log[:n+1])
			if got := effectsOf(f); !slices.Equal(got, want.effects) {
				t.Fatalf("effects\n%q, want\n%q after\n%s", got, want.effects, describe(log[:n+1]))
			}
			if f.LogTime() != want.logTime || f.Floor() != want.floor || f.Stats().Late != uint64(want.late) {
				t.Fatalf("log time %d, floor %d, late %d; want %d, %d, %d after\n%s", f.LogTime(), f.Floor(), f.Stats().Late,
					want.logTime, want.floor, want.late, describe(log[:n+1]))
			}
			for _, id := range ids {
				if got, want := viewOf(f, id), want.view(id); got != want {
					t.Fatalf("%s, want %s after\n%s", got, want, describe(log[:n+1]))
				}
			}
			if open, remembered := f.Len(); open+remembered != len(want.known) {
				t.Fatalf("%d + %d known, want %d", open, remembered, len(want.known))
			}
		}
	})
}

// TestFoldStableProperty: an outcome never changes, whatever follows, be the transaction forgotten meanwhile; and
// checkpoints never go back.
func TestFoldStableProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawFoldConfig(t)
		log := drawLog(t, cfg)
		ids := idsOf(log)
		f := smallBlocks(NewFold(cfg, Checkpoint{}))
		decided := make(map[messages.ID]string)
		at := f.Checkpoint()
		for n := range log {
			read(t, f, &log[n])
			for _, e := range f.Take() {
				if e.Kind == Decided && decided[e.Tx] != "" {
					t.Fatalf("%s decided twice:\n%s", e.Tx, describe(log[:n+1]))
				}
				if e.Kind == Decided {
					decided[e.Tx] = outcomeOf(f, e.Tx)
				}
			}
			for _, id := range ids {
				if now := outcomeOf(f, id); decided[id] != "" && now != "" && now != decided[id] {
					t.Fatalf("%s was %s and is %s:\n%s", id, decided[id], now, describe(log[:n+1]))
				}
			}
			next := f.Checkpoint()
			if next.Sequence < at.Sequence || next.LogTime < at.LogTime || next.Floor < at.Floor {
				t.Fatalf("checkpoint %+v after %+v:\n%s", next, at, describe(log[:n+1]))
			}
			at = next
		}
	})
}

// outcomeOf is a transaction's outcome, "" when it is not known.
func outcomeOf(f *Fold, id messages.ID) string {
	v, known := f.Lookup(id)
	if !known {
		return ""
	}
	return fmt.Sprintf("%s by %q: %q, wrong owner %d, conflict %v", v.Outcome, v.Participant, v.Reason, v.WrongOwner, v.Conflict)
}

// TestFoldValidityProperty: committed only with every participant's yes or read-only in time and before any no or
// abort; aborted only with a no, an abort or the time up before that.
func TestFoldValidityProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := FoldConfig{Window: 1 << 40, Remember: 1 << 20}
		log := drawLog(t, FoldConfig{Window: 20})
		f := NewFold(cfg, Checkpoint{})
		for n := range log {
			read(t, f, &log[n])
		}
		for _, id := range idsOf(log) {
			v, known := f.Lookup(id)
			want, begun := outcomeInLog(log, id)
			if known != begun || v.Outcome != want {
				t.Fatalf("%s is %s, known %v; want %s, %v:\n%s", id, v.Outcome, known, want, begun, describe(log))
			}
		}
	})
}

// outcomeInLog finds what decided a transaction: the earliest of its last missing vote, a no, an abort, a prepare that is
// routed differently, and its time.
func outcomeInLog(log []genMessage, id messages.ID) (outcome messages.Outcome, known bool) {
	var participants []string
	var expires, logTime int64
	var routing uint64
	agreed := make(map[string]bool)
	for _, m := range log {
		logTime = max(logTime, m.at)
		if known && logTime > expires {
			return messages.Aborted, true
		}
		for _, r := range m.records {
			if r.garbage != "" || r.tx != id {
				continue
			}
			switch {
			case m.kind == messages.KindPrepare && !known && slices.Contains(r.participants, m.participant):
				known, participants, expires, routing = true, r.participants, r.expires, r.routing
				if logTime > expires {
					return messages.Aborted, true
				}
			case known && m.kind == messages.KindPrepare && r.routing != routing &&
				slices.Contains(r.participants, m.participant) && slices.Contains(participants, m.participant):
				return messages.Aborted, true
			case known && m.kind == messages.KindAbort:
				return messages.Aborted, true
			case known && m.kind == messages.KindVote && slices.Contains(participants, m.participant):
				if r.vote == messages.VoteNo {
					return messages.Aborted, true
				}
				agreed[m.participant] = true
				if len(agreed) == len(participants) {
					return messages.Committed, true
				}
			}
		}
	}
	return messages.Undecided, known
}

// TestFoldReadersProperty: a reader that starts at any checkpoint, when what came before is gone, agrees with the one that
// has read everything; so does a reader that starts at that reader's checkpoint. It may remember more, never
// another outcome.
func TestFoldReadersProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := drawFoldConfig(t)
		log := drawLog(t, cfg)
		first := &reader{fold: smallBlocks(NewFold(cfg, Checkpoint{})), ids: idsOf(log)}
		outcomes := make(map[messages.ID]string)
		starts := []int{pick(t, "start", len(log)), pick(t, "next start", len(log))}
		slices.Sort(starts)
		var others []*reader
		for n := range log {
			first.read(t, &log[n])
			for _, id := range first.ids {
				if outcome := outcomeOf(first.fold, id); outcome != "" {
					outcomes[id] = outcome
				}
			}
			for _, other := range others {
				other.read(t, &log[n])
				first.agree(t, other, log[:n+1], outcomes)
			}
			for _, start := range starts {
				if start != n {
					continue
				}
				for _, from := range append([]*reader{first}, others...) {
					other := from.heir(t, cfg, log[:n+1])
					first.agree(t, other, log[:n+1], outcomes)
					others = append(others, other)
				}
			}
		}
	})
}

// reader is a fold and what it knew before the message read last.
type reader struct {
	fold    *Fold
	ids     []messages.ID
	before  []messages.ID
	effects []Effect
}

func (r *reader) known() (known []messages.ID) {
	for _, id := range r.ids {
		if _, ok := r.fold.Lookup(id); ok {
			known = append(known, id)
		}
	}
	return known
}

func (r *reader) read(t *rapid.T, m *genMessage) {
	r.before = r.known()
	read(t, r.fold, m)
	r.effects = slices.Clone(r.fold.Take())
}

// heir reads the log from r's checkpoint on.
func (r *reader) heir(t *rapid.T, cfg FoldConfig, log []genMessage) *reader {
	from := r.fold.Checkpoint()
	heir := &reader{fold: smallBlocks(NewFold(cfg, from)), ids: r.ids}
	if at := heir.fold.Checkpoint(); at.Sequence != from.Sequence || at.LogTime != from.LogTime || at.Floor != from.Floor ||
		at.Through != from.Through || !reflect.DeepEqual(at.Skip, from.Skip) {
		t.Fatalf("checkpoint %+v at once becomes %+v", from, at)
	}
	heir.fold.Replay()
	for i := range log {
		if log[i].sequence >= from.Sequence {
			heir.read(t, &log[i])
		}
	}
	if len(heir.effects) > 0 {
		t.Fatalf("effects while replaying: %v", heir.effects)
	}
	heir.fold.Live()
	heir.effects = slices.Clone(heir.fold.Take())
	r.owes(t, heir)
	r.effects, heir.effects = nil, nil
	return heir
}

// owes checks that what the heir does when it comes to life is what is open at r.
func (r *reader) owes(t *rapid.T, heir *reader) {
	r.fold.Live()
	want, got := slices.Clone(r.fold.Take()), heir.effects
	known := r.known()
	got = slices.DeleteFunc(got, func(e Effect) bool { return !slices.Contains(known, e.Tx) })
	if !slices.Equal(got, want) {
		t.Fatalf("the heir does %v, want %v", got, want)
	}
}

// agree checks that other knows all that r knows, and asked for the same; and that what only other knows is so.
func (r *reader) agree(t *rapid.T, other *reader, log []genMessage, outcomes map[messages.ID]string) {
	if r.fold.LogTime() != other.fold.LogTime() || r.fold.Sequence() != other.fold.Sequence() || r.fold.Floor() != other.fold.Floor() {
		t.Fatalf("log time %d at %d, floor %d; the other's %d at %d, floor %d:\n%s", r.fold.LogTime(), r.fold.Sequence(), r.fold.Floor(),
			other.fold.LogTime(), other.fold.Sequence(), other.fold.Floor(), describe(log))
	}
	known := r.known()
	for _, id := range r.ids {
		if slices.Contains(known, id) {
			if want, got := viewOf(r.fold, id), viewOf(other.fold, id); got != want {
				t.Fatalf("%s, the other %s:\n%s", want, got, describe(log))
			}
		} else if got := outcomeOf(other.fold, id); got != "" && got != outcomes[id] {
			t.Fatalf("%s was %q, to the other it is %q:\n%s", id, outcomes[id], got, describe(log))
		}
	}
	concerned := func(effects []Effect) []Effect {
		return slices.DeleteFunc(slices.Clone(effects), func(e Effect) bool {
			return !slices.Contains(known, e.Tx) && !slices.Contains(r.before, e.Tx)
		})
	}
	if want, got := concerned(r.effects), concerned(other.effects); !slices.Equal(want, got) {
		t.Fatalf("effects %v, the other's %v:\n%s", want, got, describe(log))
	}
}

// What decides a transaction twice is a bug, and must not go on.
func TestFoldPanicsWhenDecidedTwice(t *testing.T) {
	f := NewFold(FoldConfig{}, Checkpoint{})
	if f.cfg.Window != DefaultWindow || f.cfg.Remember != DefaultRemember {
		t.Errorf("%+v", f.cfg)
	}
	tx := f.allocate(testID(1, 1), 1, position{})
	tx.participants, tx.yesAt = append(tx.participants, "a"), append(tx.yesAt, 0)
	f.decide(tx, Verdict{Outcome: messages.Committed})
	defer func() {
		if recover() == nil {
			t.Error("decided twice without a word")
		}
	}()
	f.decide(tx, Verdict{Outcome: messages.Aborted})
}

// Open gives what is not finished, as View does, and stops when it is told to.
func TestFoldOpen(t *testing.T) {
	s := newScenario()
	s.run("prepare a tx1 expires=9 participants=a")
	s.run("prepare a tx2 expires=9 participants=a")
	s.run("prepare a tx3 expires=9 participants=a + tx4 expires=9 participants=a")
	s.run("vote a tx3 no")
	var open []string
	for v := range s.fold.Open() {
		open = append(open, s.names[v.Tx])
	}
	slices.Sort(open)
	if !slices.Equal(open, []string{"tx1", "tx2", "tx4"}) {
		t.Errorf("open: %v", open)
	}
	for range s.fold.Open() {
		open = open[1:]
		break
	}
	if len(open) != 2 {
		t.Error("Open goes on")
	}
}

// Overdue appends at most limit, whatever is there already.
func TestFoldOverdueAppends(t *testing.T) {
	s := newScenario()
	s.run("prepare a tx1 expires=1 participants=a + tx2 expires=2 participants=a + tx3 expires=3 participants=a")
	there := []messages.ID{testID(9, 9)}
	for limit, want := range map[int]int{0: 1, 1: 2, 2: 3, 9: 4} {
		if got := s.fold.Overdue(100, limit, there); len(got) != want {
			t.Errorf("limit %d: %d ids, want %d", limit, len(got), want)
		}
	}
}

// A transaction may have as many participants as there are bits.
func TestFoldManyParticipants(t *testing.T) {
	names := make([]string, messages.MaxParticipants)
	for i := range names {
		names[i] = fmt.Sprintf("p%d", i)
	}
	id := testID(1, 1)
	f := NewFold(FoldConfig{}, Checkpoint{})
	read := func(kind messages.Kind, participant string, r genRecord) {
		r.tx = id
		m := (&genMessage{f.Sequence() + 1, 1, kind, participant, []genRecord{r}}).encode()
		if err := f.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
			t.Fatal(err)
		}
	}
	read(messages.KindPrepare, names[63], genRecord{participants: names, expires: 9})
	for i, name := range names {
		if v, _ := f.Lookup(id); v.Outcome != messages.Undecided {
			t.Fatalf("%s after %d votes", v.Outcome, i)
		}
		read(messages.KindVote, name, genRecord{vote: messages.VoteYes})
	}
	if v, _ := f.Lookup(id); v.Outcome != messages.Committed || len(f.Take()) != 1+len(names) {
		t.Fatalf("%s after all votes", v.Outcome)
	}
	read(messages.KindFinished, "", genRecord{through: f.Sequence()})
	// Called back by all that it has, and by one that it has not.
	for _, name := range names {
		read(messages.KindVote, name, genRecord{vote: messages.VoteYes})
	}
	read(messages.KindVote, "stranger", genRecord{vote: messages.VoteYes})
	effects := f.Take()
	if len(effects) != 1+len(names)+1 || f.Stats().Stranger != 1 {
		t.Fatalf("%d effects, %d strangers", len(effects), f.Stats().Stranger)
	}
	if last := effects[len(effects)-1]; !last.Presumed || last.Outcome != messages.Aborted || last.Participant != "stranger" {
		t.Errorf("the stranger is told %+v", last)
	}
}
