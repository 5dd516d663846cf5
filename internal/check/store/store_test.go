// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// bench is a store and what it told.
type bench struct {
	*Store
	t    *testing.T
	file string
	told []Report
}

func open(t *testing.T) *bench {
	b := &bench{t: t, file: filepath.Join(t.TempDir(), "store.db")}
	b.open()
	t.Cleanup(func() { b.Close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	b.Store, err = Open(b.file, 100, func(subject string, data []byte) error {
		var r Report
		if err := json.Unmarshal(data, &r); err != nil || subject != "inbox" {
			b.t.Errorf("told %q to %s: %v", data, subject, err)
		}
		b.told = append(b.told, r)
		return errors.New("nobody listens") // which is nobody's concern
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// restart opens the file again, as after a crash.
func (b *bench) restart() {
	b.t.Helper()
	if err := b.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// branch is one of operations such as "append x 1", "read x", "add a -5" and "balance a".
func branch(t *testing.T, ops ...Operation) *participant.Branch {
	t.Helper()
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(time.Minute)}
	for i, o := range ops {
		if o.Op == "read" || o.Op == "balance" {
			o.Report, o.Number = "inbox", i
		}
		payload, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b.Operations = append(b.Operations, messages.Operation{Payload: payload})
	}
	return b
}

func (b *bench) prepare(branches ...*participant.Branch) []participant.Result {
	return b.PrepareBatch(b.t.Context(), branches)
}

func (b *bench) yes(branches ...*participant.Branch) {
	b.t.Helper()
	for _, r := range b.prepare(branches...) {
		if r.Err != nil || r.Vote != participant.Yes {
			b.t.Fatalf("%+v, want yes", r)
		}
	}
}

func (b *bench) finish(commit bool, branches ...*participant.Branch) {
	b.t.Helper()
	var outcomes []participant.Outcome
	for _, br := range branches {
		outcomes = append(outcomes, participant.Outcome{Tx: br.Tx, Commit: commit})
	}
	if err := errors.Join(b.FinishBatch(b.t.Context(), outcomes)...); err != nil {
		b.t.Fatal(err)
	}
}

// wantTold is what was told last.
func (b *bench) wantTold(times int, of *participant.Branch, reads ...Read) {
	b.t.Helper()
	if len(b.told) != times {
		b.t.Fatalf("told %d times, want %d: %+v", len(b.told), times, b.told)
	}
	last := b.told[len(b.told)-1]
	same := func(a, b Read) bool {
		return a.Number == b.Number && a.Balance == b.Balance && slices.Equal(a.Values, b.Values)
	}
	if last.Tx != of.Tx.String() || !slices.EqualFunc(last.Reads, reads, same) {
		b.t.Errorf("told %+v, want %+v of %s", last, reads, of.Tx)
	}
}

// A read sees what is committed and what its own transaction did before it; what others have prepared it does not see.
func TestReads(t *testing.T) {
	b := open(t)
	first := branch(t, Operation{Op: "append", Key: "x", Value: 1}, Operation{Op: "add", Key: "a", Value: -30})
	b.yes(first)
	if len(b.told) > 0 {
		t.Errorf("told %+v of nothing that was read", b.told)
	}
	second := branch(t, Operation{Op: "read", Key: "x"}, Operation{Op: "append", Key: "x", Value: 2}, Operation{Op: "read", Key: "x"},
		Operation{Op: "balance", Key: "a"}, Operation{Op: "add", Key: "a", Value: -5}, Operation{Op: "balance", Key: "a"})
	b.yes(second)
	b.wantTold(1, second, Read{Number: 0}, Read{Number: 2, Values: []int64{2}}, Read{Number: 3, Balance: 100}, Read{Number: 5, Balance: 95})
	b.finish(true, first)
	third := branch(t, Operation{Op: "read", Key: "x"}, Operation{Op: "balance", Key: "a"})
	b.yes(third)
	b.wantTold(2, third, Read{Number: 0, Values: []int64{1}}, Read{Number: 1, Balance: 70})
	b.finish(true, second)
	b.finish(false, third)
	fourth := branch(t, Operation{Op: "read", Key: "x"}, Operation{Op: "balance", Key: "a"})
	b.yes(fourth)
	b.wantTold(3, fourth, Read{Number: 0, Values: []int64{1, 2}}, Read{Number: 1, Balance: 65})
}

// A prepare that comes again, also after a crash, tells what was read the first time, whatever has been committed since.
func TestReadAgain(t *testing.T) {
	b := open(t)
	reader := branch(t, Operation{Op: "read", Key: "x"})
	b.yes(reader)
	writer := branch(t, Operation{Op: "append", Key: "x", Value: 1})
	b.yes(writer)
	b.finish(true, writer)
	b.yes(reader)
	b.wantTold(2, reader, Read{})
	b.restart()
	b.yes(reader)
	b.wantTold(3, reader, Read{})
	doubt, err := b.InDoubt(t.Context())
	if err != nil || len(doubt) != 1 || doubt[0].Tx != reader.Tx {
		t.Errorf("in doubt: %+v, %v", doubt, err)
	}
	b.finish(true, reader)
	b.yes(reader) // it is over: there is nothing to tell
	b.wantTold(3, reader, Read{})
}

// A batch that fails leaves nothing, and what it would have read is not told.
func TestNothingIsToldOfWhatIsNotDurable(t *testing.T) {
	b := open(t)
	reader := branch(t, Operation{Op: "read", Key: "x"})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if r := b.prepare(reader); r[0].Err == nil || len(b.told) > 0 {
		t.Errorf("%+v, told %+v of a file that is closed", r, b.told)
	}
	b.open()
}

func TestRefusals(t *testing.T) {
	b := open(t)
	held := branch(t, Operation{Op: "add", Key: "a", Value: -60})
	b.yes(held)
	for want, op := range map[string]Operation{
		"overdrawn: 50 wanted, 40 free": {Op: "add", Key: "a", Value: -50},
		`op "write": want append`:       {Op: "write", Key: "x"},
		`"append" without a key`:        {Op: "append"},
		`account "b" is overdrawn`:      {Op: "add", Key: "b", Value: -101},
	} {
		r := b.prepare(branch(t, op))[0]
		if !errors.Is(r.Err, participant.ErrRefused) || !strings.Contains(r.Err.Error(), want) {
			t.Errorf("%+v: %v, want %q", op, r.Err, want)
		}
	}
	b.finish(false, held)
	b.yes(branch(t, Operation{Op: "add", Key: "a", Value: -100})) // the hold is gone
}

// A branch that neither changes nor tells anything needs no outcome.
func TestReadOnly(t *testing.T) {
	b := open(t)
	quiet := &participant.Branch{Tx: messages.NewID(), Operations: []messages.Operation{{Payload: []byte(`{"op":"read","key":"x"}`)}}}
	if r := b.prepare(quiet)[0]; r.Err != nil || r.Vote != participant.ReadOnly {
		t.Errorf("%+v, want read-only", r)
	}
	quiet = &participant.Branch{Tx: messages.NewID(), Operations: []messages.Operation{{Payload: []byte(`{"op":"read","key":"x"}`), Keys: []string{"x"}}}}
	if r := b.prepare(quiet)[0]; r.Err != nil || r.Vote != participant.Yes {
		t.Errorf("%+v, want yes: its keys are held until the outcome", r)
	}
}
