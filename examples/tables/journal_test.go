// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// notes is a store that keeps a note for each transaction that was committed.
var notes = Table[string]{"notes"}

func open(t *testing.T) *Journal[string] {
	t.Helper()
	file, err := Open(filepath.Join(t.TempDir(), "notes.db"), Durable(), append(JournalBuckets(), notes.Name)...)
	if err != nil {
		t.Fatal(err)
	}
	j, err := NewJournal[string](file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Whatever happened, what is in memory is what is in the file.
		again, err := NewJournal[string](file)
		if err != nil || !reflect.DeepEqual(j.held, again.held) || !maps.Equal(j.ended, again.ended) {
			t.Errorf("in memory are %v and %v; in the file %v and %v, %v", j.held, j.ended, again.held, again.ended, err)
		}
		file.Close()
	})
	return j
}

func branch(expires time.Time) *participant.Branch {
	return &participant.Branch{Tx: messages.NewID(), Expires: expires}
}

func yes(*Writer, *participant.Branch) (string, participant.Vote, error) {
	return "noted", participant.Yes, nil
}

func keep(w *Writer, tx messages.ID, what string, commit bool) error {
	if !commit {
		return nil
	}
	return notes.Put(w, tx[:], what)
}

func (j *Journal[T]) wantFinished(t *testing.T, want int) {
	t.Helper()
	if all, err := j.Finished(); len(all) != want || err != nil {
		t.Errorf("%d are remembered, %v; want %d", len(all), err, want)
	}
}

// Those that could be forgotten while nothing ended are forgotten by and by, at most so many with each batch.
func TestSweepCatchesUp(t *testing.T) {
	j := open(t)
	j.Remember = time.Hour
	var outcomes []participant.Outcome
	for range 10 {
		b := branch(time.Now().Add(-time.Minute))
		j.Prepare([]*participant.Branch{b}, yes)
		outcomes = append(outcomes, participant.Outcome{Tx: b.Tx, Commit: true})
	}
	if err := errors.Join(j.Finish(outcomes, keep)...); err != nil {
		t.Fatal(err)
	}
	j.wantFinished(t, 10)
	err := j.file.Update(func(w *Writer) error { return j.sweep(w, time.Now().Add(2*time.Hour), 4) })
	if err != nil {
		t.Fatal(err)
	}
	j.wantFinished(t, 6)
}

// A branch that fails before it has written anything fails alone. One that fails in the middle takes the batch with it, for what
// it wrote must not stay.
func TestWhoFailsAlone(t *testing.T) {
	j := open(t)
	good, bad := branch(time.Now().Add(time.Hour)), branch(time.Now().Add(time.Hour))
	broken := errors.New("broken")
	for _, writes := range []bool{true, false} {
		results := j.Prepare([]*participant.Branch{good, bad}, func(w *Writer, b *participant.Branch) (string, participant.Vote, error) {
			if b == good {
				return "good", participant.Yes, nil
			}
			if writes {
				if err := notes.Put(w, b.Tx[:], "half of it"); err != nil {
					t.Error(err)
				}
			}
			return "", 0, broken
		})
		if !errors.Is(results[1].Err, broken) {
			t.Errorf("the bad one: %v", results[1])
		}
		if alone := results[0].Err == nil; alone == writes {
			t.Errorf("the good one: %v, the bad one had written: %v", results[0], writes)
		}
		txs, err := j.InDoubt(t.Context())
		if inDoubt := len(txs) == 1 && txs[0].Tx == good.Tx; inDoubt == writes || err != nil {
			t.Errorf("in doubt are %v, %v; the bad one had written: %v", txs, err, writes)
		}
	}
}

// Outcomes that free no key wait for the commit of the next prepares, so that both are one sync; one that frees a key does not.
func TestOutcomesJoinPrepares(t *testing.T) {
	j := open(t)
	j.file.patience = time.Hour
	j.file.met.Store(int64(time.Since(j.file.opened) + time.Hour))
	first, next, keyed := branch(time.Now().Add(time.Hour)), branch(time.Now().Add(time.Hour)), branch(time.Now().Add(time.Hour))
	keyed.Operations = []messages.Operation{{Keys: []string{"one"}}}
	j.Prepare([]*participant.Branch{first, keyed}, yes)
	before := j.file.commits(t)
	ended := make(chan []error, 1)
	go func() { ended <- j.Finish([]participant.Outcome{{Tx: first.Tx, Commit: true}}, keep) }()
	j.file.gathered(1)
	j.Prepare([]*participant.Branch{next}, yes)
	if err := errors.Join(<-ended...); err != nil {
		t.Error(err)
	}
	if got := j.file.commits(t) - before; got != 1 {
		t.Errorf("%d commits of an outcome and a prepare, want 1", got)
	}
	if err := errors.Join(j.Finish([]participant.Outcome{{Tx: keyed.Tx, Commit: true}}, keep)...); err != nil { // or it takes an hour
		t.Error(err)
	}
	j.wantFinished(t, 2)
}

// What one commit finished is forgotten together, but each not before it has expired.
func TestSweepIsNotEarly(t *testing.T) {
	j := open(t)
	now := time.Now()
	var outcomes []participant.Outcome
	for _, expires := range []time.Duration{0, time.Millisecond, 999 * time.Millisecond, time.Minute} {
		b := branch(now.Add(expires))
		j.Prepare([]*participant.Branch{b}, yes)
		outcomes = append(outcomes, participant.Outcome{Tx: b.Tx, Commit: true})
	}
	if err := errors.Join(j.Finish(outcomes, keep)...); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		after time.Duration
		left  int
	}{{-time.Second, 4}, {2 * time.Second, 1}, {59 * time.Second, 1}, {62 * time.Second, 0}} {
		if err := j.file.Update(func(w *Writer) error { return j.sweep(w, now.Add(at.after), 100) }); err != nil {
			t.Fatal(err)
		}
		j.wantFinished(t, at.left)
	}
}

// An outcome that could not be applied is applied when it comes again, and one that comes twice is applied once: what is held in mind
// is what is in the file.
func TestOutcomesComeAgain(t *testing.T) {
	j := open(t)
	b := branch(time.Now().Add(time.Hour))
	j.Prepare([]*participant.Branch{b}, yes)
	broken := errors.New("broken")
	calls := 0
	finish := func(fail error) func(*Writer, messages.ID, string, bool) error {
		return func(w *Writer, tx messages.ID, what string, commit bool) error {
			calls++
			if what != "noted" || !commit {
				t.Errorf("%q, %v", what, commit)
			}
			return errors.Join(keep(w, tx, what, commit), fail)
		}
	}
	commit := participant.Outcome{Tx: b.Tx, Commit: true}
	for _, attempt := range []struct {
		fail        error
		outcomes    []participant.Outcome
		calls, left int
	}{
		{broken, []participant.Outcome{commit}, 1, 1},
		{broken, []participant.Outcome{commit}, 2, 1},
		{nil, []participant.Outcome{commit, commit}, 3, 0},
		{nil, []participant.Outcome{commit}, 3, 0},
	} {
		err := errors.Join(j.Finish(attempt.outcomes, finish(attempt.fail))...)
		if (attempt.fail == nil) != (err == nil) || !errors.Is(err, attempt.fail) && attempt.fail != nil {
			t.Errorf("finish: %v, want %v", err, attempt.fail)
		}
		if txs, err := j.InDoubt(t.Context()); len(txs) != attempt.left || err != nil || calls != attempt.calls {
			t.Errorf("in doubt are %v, %v, after %d calls; want %d after %d", txs, err, calls, attempt.left, attempt.calls)
		}
	}
}

// A branch whose commit failed is not held, neither in the file nor in mind.
func TestPrepareFails(t *testing.T) {
	j := open(t)
	good, bad := branch(time.Now().Add(time.Hour)), branch(time.Now().Add(time.Hour))
	j.Prepare([]*participant.Branch{good, bad}, func(w *Writer, b *participant.Branch) (string, participant.Vote, error) {
		if b == bad {
			return "", 0, errors.Join(notes.Put(w, b.Tx[:], "half of it"), errors.New("broken"))
		}
		return "good", participant.Yes, nil
	})
	errs := j.Finish([]participant.Outcome{{Tx: good.Tx, Commit: true}}, func(*Writer, messages.ID, string, bool) error {
		return errors.New("it was never prepared")
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

// A prepare that comes again in the very commit of its outcome finds it over; and what a commit that fails ended is as it was before.
func TestPrepareComesAgainWithItsOutcome(t *testing.T) {
	j := open(t)
	j.file.patience = time.Hour
	j.file.met.Store(int64(time.Since(j.file.opened) + time.Hour))
	b, late := branch(time.Now().Add(time.Hour)), branch(time.Now().Add(time.Hour))
	j.Prepare([]*participant.Branch{b}, yes)
	for _, fail := range []error{errors.New("broken"), nil} {
		ended := make(chan []error, 1)
		go func() {
			ended <- j.Finish([]participant.Outcome{{Tx: b.Tx, Commit: true}, {Tx: late.Tx}}, keep) // of late nothing is known, and it is to be rolled back
		}()
		j.file.gathered(1)
		var asked []*participant.Branch
		results := j.Prepare([]*participant.Branch{b, late}, func(w *Writer, b *participant.Branch) (string, participant.Vote, error) {
			asked = append(asked, b)
			return "late", participant.Yes, errors.Join(notes.Put(w, b.Tx[:], "late"), fail)
		})
		if !slices.Equal(asked, []*participant.Branch{late}) {
			t.Errorf("asked were %v, want only the one that is not over", asked)
		}
		for _, err := range append(<-ended, results[0].Err, results[1].Err) {
			if (err == nil) != (fail == nil) {
				t.Errorf("%v; want one only if the commit failed (%v)", err, fail)
			}
		}
		if txs, err := j.InDoubt(t.Context()); len(txs) != 1 || (txs[0].Tx == b.Tx) != (fail != nil) || err != nil {
			t.Errorf("in doubt are %v, %v, after %v", txs, err, fail)
		}
	}
	j.wantFinished(t, 1)
}

// A branch that is prepared and rolled back by one commit, which fails, was never here.
func TestWhatALostCommitEndedIsUnknown(t *testing.T) {
	j := open(t)
	b := branch(time.Now().Add(time.Hour))
	err := j.file.Update(func(w *Writer) error {
		if vote, err := j.prepare(w, b, yes); vote != participant.Yes || err != nil {
			t.Errorf("%v, %v", vote, err)
		}
		if err := j.finish(w, participant.Outcome{Tx: b.Tx}, keep, make(map[int64][]byte)); err != nil {
			t.Error(err)
		}
		return errors.New("lost")
	})
	if err == nil || j.knows(b.Tx) {
		t.Errorf("%v; known: %v", err, j.knows(b.Tx))
	}
}

// A list that was cut is damage, which whoever opens the file hears.
func TestDamagedList(t *testing.T) {
	j := open(t)
	file := j.file
	damage := func(list []byte) error {
		key := make([]byte, 8+idSize)
		return file.Update(func(w *Writer) error {
			w.writes++
			if len(list) == 0 {
				return inBucket(w.Tx).Delete(key)
			}
			return inBucket(w.Tx).Put(key, list)
		})
	}
	if err := damage(make([]byte, endedSize+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewJournal[string](file); err == nil || !strings.Contains(err.Error(), "the file is damaged: ended 0000") {
		t.Errorf("opened with %v", err)
	}
	if err := damage(nil); err != nil {
		t.Fatal(err)
	}
}

// A slice of what has a fixed size has none.
func TestSlices(t *testing.T) {
	j := open(t)
	lists := Table[[]int64](notes)
	for _, list := range [][]int64{{}, {1}, {1, 2}} {
		if err := j.file.Update(func(w *Writer) error { return lists.Put(w, []byte("list"), list) }); err != nil {
			t.Fatal(err)
		}
		if err := j.file.View(func(tx *bbolt.Tx) error {
			if got, _, err := lists.Get(tx, []byte("list")); !slices.Equal(got, list) || err != nil {
				t.Errorf("%v, %v; want %v", got, err, list)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A value of a fixed size is as long as that in the file, and anything else is damage.
func TestFixedSize(t *testing.T) {
	j := open(t)
	numbers := Table[struct{ A, B int64 }](notes)
	if err := j.file.Update(func(w *Writer) error {
		return errors.Join(numbers.Put(w, []byte("one"), struct{ A, B int64 }{-1, 1 << 40}),
			numbers.Copy(w, []byte("short"), []byte("short")), numbers.Copy(w, []byte("long"), make([]byte, 17)))
	}); err != nil {
		t.Fatal(err)
	}
	if err := j.file.View(func(tx *bbolt.Tx) error {
		if data := tx.Bucket([]byte(notes.Name)).Get([]byte("one")); len(data) != 16 {
			t.Errorf("%d bytes", len(data))
		}
		if v, ok, err := numbers.Get(tx, []byte("one")); v.A != -1 || v.B != 1<<40 || !ok || err != nil {
			t.Errorf("%v, %v, %v", v, ok, err)
		}
		for _, key := range []string{"short", "long"} {
			if _, _, err := numbers.Get(tx, []byte(key)); err == nil || !strings.Contains(err.Error(), "the file is damaged: notes \""+key+"\"") {
				t.Errorf("%s: %v", key, err)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
