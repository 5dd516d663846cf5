// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
)

// told is a message of a journal's history.
type told struct {
	sequence, base uint64
	records        []record
}

// history makes journals as the shell does: what stands far back is written again before a message, and only what is over is
// trimmed.
type history struct {
	t       *rapid.T
	now     int64
	state   *state
	told    []told
	trimmed uint64
	span    uint64
	// model is what is open, and what was settled, as a child would keep it.
	open    map[messages.ID]string
	settled map[messages.ID]bool
	expires map[messages.ID]int64
	marks   map[string]uint64
}

func (h *history) write(records []record) {
	message := told{h.state.last + 1, h.state.last, records}
	h.told = append(h.told, message)
	for i := range records {
		h.state.apply(message.sequence, &records[i], h.now)
	}
}

func (h *history) put(records ...record) {
	if moved := h.state.moves(h.span, 300, h.now); len(moved) > 0 {
		h.write(moved)
	}
	h.trimmed = max(h.trimmed, h.state.trimTo(h.now))
	h.write(records)
}

// reread is the state of one who reads what is left.
func (h *history) reread() *state {
	s := newState()
	s.maxPast = h.state.maxPast
	for _, m := range h.told {
		if m.sequence >= h.trimmed {
			s.message(m.sequence, m.base, m.records, h.now)
		}
	}
	return s
}

func (h *history) check() {
	for name, s := range map[string]*state{"the writer's": h.state, "the next reader's": h.reread()} {
		open := map[messages.ID]string{}
		for tx, it := range s.open {
			open[tx] = string(it.data)
		}
		if !reflect.DeepEqual(open, h.open) {
			h.t.Fatalf("%s open branches: %v, want %v", name, open, h.open)
		}
		for stream, sequence := range h.marks {
			if it := s.marks[stream]; it == nil || it.sequence != sequence {
				h.t.Fatalf("%s watermark of %s: %v, want %d", name, stream, it, sequence)
			}
		}
		for tx, commit := range h.settled {
			it := s.past[tx]
			switch forgotten := s.floor != nil && tx.UnixMilli() <= s.floor.record.at; {
			case it != nil && it.commit != commit:
				h.t.Fatalf("%s memory of %s: commit is %v, want %v", name, tx, it.commit, commit)
			case it == nil && !forgotten && h.expires[tx]+pastExpiry >= h.now:
				h.t.Fatalf("%s memory has lost %s, which expires at %d; it is %d", name, tx, h.expires[tx], h.now)
			}
		}
		if len(s.past) > s.maxPast {
			h.t.Fatalf("%s memory holds %d, at most %d", name, len(s.past), s.maxPast)
		}
	}
}

// Whatever is written, settled, written again and trimmed: who reads what is left knows what the writer knows.
func TestPropertyWhatIsTrimmedIsOver(t *testing.T) {
	trimmed := false
	rapid.Check(t, func(t *rapid.T) {
		h := &history{
			t: t, now: 1_000_000, state: newState(), span: rapid.Uint64Range(1, 20).Draw(t, "span"),
			open: map[messages.ID]string{}, settled: map[messages.ID]bool{}, expires: map[messages.ID]int64{}, marks: map[string]uint64{},
		}
		h.state.maxPast = rapid.IntRange(1, 10).Draw(t, "memory")
		ids := make([]messages.ID, 12)
		for i := range ids {
			ids[i] = id(i)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { h.check() },
			"open": func(t *rapid.T) {
				var records []record
				for _, tx := range rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, 3, rapid.ID).Draw(t, "txs") {
					if _, again := h.settled[tx]; again {
						continue
					}
					r := record{verb: verbOpen, tx: tx, at: h.now + rapid.Int64Range(0, 200_000).Draw(t, "expiry"), data: []byte(rapid.StringMatching("[a-z]{1,200}").Draw(t, "data"))}
					h.open[tx], h.expires[tx] = string(r.data), r.at
					records = append(records, r)
				}
				if len(records) > 0 {
					h.put(records...)
				}
			},
			"settle": func(t *rapid.T) {
				for tx := range h.open {
					commit := rapid.Bool().Draw(t, "commit")
					delete(h.open, tx)
					h.settled[tx] = commit
					h.put(record{verb: verbDone, tx: tx, at: h.expires[tx], commit: commit}, record{verb: verbHere})
					break
				}
			},
			"mark": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "stream")
				h.marks[name]++
				h.put(record{verb: verbMark, name: name, incarnation: "1", sequence: h.marks[name]})
			},
			"here":   func(*rapid.T) { h.put(record{verb: verbHere}) },
			"time":   func(t *rapid.T) { h.now += rapid.Int64Range(0, 100_000).Draw(t, "passes") },
			"reread": func(*rapid.T) { h.state = h.reread() },
			"superseded": func(t *rapid.T) { // of one who had not read to the end, and got through nevertheless
				base := rapid.Uint64Range(0, h.state.last).Draw(t, "base")
				m := told{h.state.last + 1, base, []record{{verb: verbOpen, tx: id(99), at: h.now, data: []byte("zombie")}}}
				if m.sequence == base+1 {
					return
				}
				h.told = append(h.told, m)
				h.state.message(m.sequence, m.base, m.records, h.now)
			},
		})
		trimmed = trimmed || h.trimmed > 1
	})
	if !trimmed {
		t.Error("nothing was ever trimmed")
	}
}

// id is the transaction that was minted at a millisecond.
func id(ms int) messages.ID {
	tx, err := messages.ParseID(fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, ms))
	if err != nil {
		panic(err)
	}
	return tx
}

// The stream stays short however long a branch stays open.
func TestPropertyAnOpenBranchHoldsNothingUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, now: 1, state: newState(), span: rapid.Uint64Range(1, 20).Draw(t, "span")}
		for i := range 5 {
			h.put(record{verb: verbOpen, tx: id(i), at: 1 << 40, data: bytes.Repeat([]byte("x"), 100)})
		}
		for range 200 {
			h.put(record{verb: verbHere})
		}
		if length := h.state.last - h.trimmed; length > 2*h.span+10 {
			t.Fatalf("%d messages stay, with a span of %d", length, h.span)
		}
		if len(h.state.open) != 5 || len(h.state.order.items) > 10 {
			t.Fatalf("%d open, %d items in order", len(h.state.open), len(h.state.order.items))
		}
	})
}

// A settled branch's data is let go of at once, though its record is still in the stream.
func TestDataOfWhatIsSettledIsFreed(t *testing.T) {
	s := newState()
	s.apply(1, &record{verb: verbOpen, tx: id(1), at: 1 << 40, data: []byte("held")}, 1)
	s.apply(2, &record{verb: verbOpen, tx: id(2), at: 1 << 40, data: []byte("large")}, 1)
	s.apply(3, &record{verb: verbDone, tx: id(2), at: 1 << 40}, 1)
	for _, it := range s.order.items {
		if it.tx == id(2) && it.data != nil {
			t.Error("the data is kept")
		}
	}
}

func TestRecords(t *testing.T) {
	for _, line := range []string{
		"begin 01996d3e-0000-7000-8000-000000000000 1764122400000",
		`open 01996d3e-0000-7000-8000-000000000000 1764122400000 {"a": 1} x`,
		"done 01996d3e-0000-7000-8000-000000000000 0 commit",
		"done 01996d3e-0000-7000-8000-000000000000 5 rollback",
		"mark assent-log-0 2026-11-26T02:00:00Z 42",
		"floor 17",
		"here",
	} {
		r, err := parseRecord([]byte(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if again := string(appendRecord(nil, &r)); again != line {
			t.Errorf("%s: written again it is %s", line, again)
		}
	}
	for _, line := range []string{
		"", " ", "here ", "here now", "begin", "begin x", "begin x -1", "begin x 1 2", "opened x", "floor", "floor x", "floor -1",
		"open 01996d3e-0000-7000-8000-000000000000 1", "open 01996d3e-0000-7000-8000-000000000000 1 ", "open x 1 {}",
		"done 01996d3e-0000-7000-8000-000000000000 1", "done 01996d3e-0000-7000-8000-000000000000 1 maybe",
		"mark a b", "mark a b -1", "mark a  1", "mark a b 99999999999999999999",
	} {
		if r, err := parseRecord([]byte(line)); !errors.Is(err, errMalformed) {
			t.Errorf("%q is read as %+v, %v", line, r, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte("open 01996d3e-0000-7000-8000-000000000000 1 {}"))
	f.Add([]byte("done 01996d3e-0000-7000-8000-000000000000 1 commit"))
	f.Add([]byte("mark a b 1"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRecord(line)
		if err != nil {
			return
		}
		written := appendRecord(nil, &r)
		again, err := parseRecord(written)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Errorf("%q is written as %q and read as %+v, %v", line, written, again, err)
		}
	})
}
