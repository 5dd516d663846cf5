// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent"
)

// clash is the error of a Commit that met another transaction.
func clash(tx *assent.Tx) error {
	return &assent.AbortedError{Tx: tx.ID(), Attempt: tx.ID(), Participant: "p", Reason: "k is locked", Conflict: true}
}

// Do tries again until it meets no other transaction: after pauses that are drawn from a bound which doubles, with new ids, and
// with the age of the first attempt.
func TestDoTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := assent.Unconnected(time.Hour)
		const attempts = 60
		var txs []*assent.Tx
		var at []time.Time
		err := client.DoWith(t.Context(), func(tx *assent.Tx) error {
			txs, at = append(txs, tx), append(at, time.Now())
			if len(txs)%2 == 0 { // the function may meet it as well, in what it reads
				return fmt.Errorf("reading: %w", assent.ErrConflict)
			}
			return nil
		}, func(tx *assent.Tx, _ context.Context) error {
			if tx != txs[len(txs)-1] {
				t.Error("what is committed is not what the function was given")
			}
			if len(txs) <= attempts {
				return clash(tx)
			}
			return nil
		})
		if err != nil || len(txs) != attempts+1 {
			t.Fatalf("%d attempts, %v", len(txs), err)
		}
		ids, long := map[assent.ID]bool{}, 0
		for i, tx := range txs {
			ids[tx.ID()] = true
			if want := txs[0].ID().UnixMilli() * 1000; i > 0 && tx.Since() != want {
				t.Errorf("attempt %d has the age %d; want %d", i, tx.Since(), want)
			}
			if i == 0 {
				continue
			}
			pause, bound := at[i].Sub(at[i-1]), min(2*time.Millisecond<<min(i-1, 20), time.Second)
			if pause < 0 || pause >= bound {
				t.Errorf("before attempt %d it paused for %v; want less than %v", i, pause, bound)
			}
			if i > 10 && pause > 400*time.Millisecond {
				long++
			}
		}
		if txs[0].Since() != 0 || len(ids) != len(txs) {
			t.Errorf("the first attempt has the age %d; %d ids", txs[0].Since(), len(ids))
		}
		if long < attempts/5 { // of 50 that are drawn from a second, 30 on average
			t.Errorf("only %d pauses are long", long)
		}
	})
}

// What Do gives back, and how often it calls the function.
func TestDoEnds(t *testing.T) {
	broken := errors.New("broken")
	unknown := func(err error) error { return &assent.UnknownError{Tx: assent.NewID(), Err: err} }
	for name, c := range map[string]struct {
		function, commit error
		calls, commits   int
		want             []error
		not              error
	}{
		"committed":                           {nil, nil, 1, 1, nil, assent.ErrConflict},
		"the function fails":                  {broken, nil, 1, 0, []error{broken}, assent.ErrConflict},
		"refused":                             {nil, &assent.AbortedError{Reason: "no"}, 1, 1, []error{assent.ErrAborted}, assent.ErrConflict},
		"moved, and given up":                 {nil, &assent.AbortedError{WrongOwner: 3}, 1, 1, []error{assent.ErrAborted, assent.ErrMoved}, assent.ErrConflict},
		"unknown":                             {nil, unknown(broken), 1, 1, []error{assent.ErrUnknown, broken}, assent.ErrConflict},
		"unknown, and somewhere a conflict":   {nil, unknown(clash(new(assent.Tx))), 1, 1, []error{assent.ErrUnknown}, nil},
		"overloaded":                          {nil, &assent.OverloadedError{}, 1, 1, []error{assent.ErrOverloaded}, assent.ErrConflict},
		"the function has an unknown outcome": {unknown(assent.ErrConflict), nil, 1, 0, []error{assent.ErrUnknown}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := assent.Unconnected(time.Hour)
			calls, commits := 0, 0
			err := client.DoWith(t.Context(), func(*assent.Tx) error {
				if calls++; calls > 3 {
					return errors.New("it is called again and again")
				}
				return c.function
			},
				func(*assent.Tx, context.Context) error { commits++; return c.commit })
			for _, want := range c.want {
				if !errors.Is(err, want) {
					t.Errorf("got %v, want %v", err, want)
				}
			}
			if (err == nil) != (c.want == nil) || (c.not != nil && errors.Is(err, c.not)) {
				t.Errorf("got %v", err)
			}
			if calls != c.calls || commits != c.commits {
				t.Errorf("%d calls and %d commits; want %d and %d", calls, commits, c.calls, c.commits)
			}
		})
	}
}

// Between two attempts Do ends with its context, its patience or its client, and says what it met last.
func TestDoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		always := func(tx *assent.Tx, _ context.Context) error { return clash(tx) }
		nothing := func(*assent.Tx) error { return nil }
		client, end := assent.Unconnected(7 * time.Second)
		begun := time.Now()
		err := client.DoWith(context.Background(), nothing, always, assent.WithTimeout(5*time.Second))
		if took := time.Since(begun); took < 12*time.Second || took > 13*time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a deadline: %v after %v; want the timeout and the patience, 12s", err, took)
		}
		var aborted *assent.AbortedError
		if !errors.Is(err, assent.ErrConflict) || !errors.Is(err, assent.ErrAborted) || !errors.As(err, &aborted) || errors.Is(err, assent.ErrUnknown) {
			t.Errorf("%v is not that of the last attempt", err)
		}
		reason := errors.New("the user went away")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(3*time.Second, func() { cancel(reason) })
		if err := client.DoWith(ctx, nothing, always); !errors.Is(err, reason) || !errors.Is(err, assent.ErrConflict) {
			t.Errorf("cancelled: %v", err)
		}
		calls := 0
		if err := client.DoWith(ctx, func(*assent.Tx) error { calls++; return nil }, always); !errors.Is(err, reason) || calls != 1 {
			t.Errorf("cancelled before: %v, %d calls", err, calls)
		}
		time.AfterFunc(time.Second, end)
		if err := client.DoWith(context.Background(), nothing, always); !errors.Is(err, assent.ErrClosed) || !errors.Is(err, assent.ErrConflict) {
			t.Errorf("closed: %v", err)
		}
	})
}

// Do takes no id of the caller's, and does not try again what the function has committed by itself.
func TestDoIsNotMisused(t *testing.T) {
	client, _ := assent.Unconnected(time.Hour)
	commits := 0
	commit := func(tx *assent.Tx, _ context.Context) error { commits++; return clash(tx) }
	err := client.DoWith(t.Context(), func(*assent.Tx) error { t.Error("called"); return nil }, commit, assent.WithID(assent.NewID()))
	wantInvalid(t, err, "tx", "WithID")
	calls := 0
	err = client.DoWith(t.Context(), func(tx *assent.Tx) error {
		calls++
		tx.Given()
		return assent.ErrConflict
	}, commit)
	if !errors.Is(err, assent.ErrConflict) || calls != 1 || commits != 0 {
		t.Errorf("%v, %d calls, %d commits", err, calls, commits)
	}
}

// RetryOf keeps the age of the first attempt, however often it is tried again.
func TestRetryOf(t *testing.T) {
	client, _ := assent.Unconnected(time.Hour)
	first := client.Begin(assent.RetryOf(nil))
	second := client.Begin(assent.RetryOf(first))
	third := client.Begin(assent.RetryOf(second))
	if age := first.ID().UnixMilli() * 1000; first.Since() != 0 || second.Since() != age || third.Since() != age {
		t.Errorf("the ages are %d, %d and %d; want 0 and %d", first.Since(), second.Since(), third.Since(), age)
	}
	if first.ID() == second.ID() || second.ID() == third.ID() {
		t.Error("an attempt has the id of the one before")
	}
}

// fate is what becomes of an attempt, and what Commit learns of it.
type fate struct {
	function error // the function's: nothing is submitted
	happens  bool
	learnt   func(*assent.Tx) error
}

// fates are all that there can be. What is unknown may have met another transaction somewhere on the way; that is no proof.
var fates = []fate{
	{function: assent.ErrConflict},
	{learnt: clash},
	{learnt: func(tx *assent.Tx) error { return fmt.Errorf("round it: %w", clash(tx)) }},
	{learnt: func(*assent.Tx) error { return assent.ErrConflict }},
	{learnt: func(*assent.Tx) error { return &assent.AbortedError{Reason: "no"} }},
	{learnt: func(*assent.Tx) error { return fmt.Errorf("nothing was submitted: %w", context.Canceled) }},
	{happens: true, learnt: func(*assent.Tx) error { return nil }},
	{happens: true, learnt: func(tx *assent.Tx) error { return &assent.UnknownError{Tx: tx.ID(), Err: errors.New("lost")} }},
	{happens: true, learnt: func(tx *assent.Tx) error { return &assent.UnknownError{Tx: tx.ID(), Err: clash(tx)} }},
	{happens: true, learnt: func(tx *assent.Tx) error { return errors.Join(clash(tx), assent.ErrUnknown) }},
}

// TestDoProperty: whatever becomes of each attempt, and whatever of that Commit learns, at most one happens, and exactly one when
// Do says so.
func TestDoProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.SampledFrom(fates), 1, 12).Draw(rt, "fates")
		var broken string
		synctest.Test(t, func(*testing.T) { broken = play(script) })
		if broken != "" {
			rt.Fatal(broken)
		}
	})
}

// play gives the attempts of a Do their fates, the last one for good, and says what is wrong with how it ends.
func play(script []fate) (broken string) {
	client, _ := assent.Unconnected(time.Minute)
	happened, calls, ids := 0, 0, map[assent.ID]bool{}
	next := func() (f fate) {
		f = script[0]
		script = script[min(1, len(script)-1):]
		return f
	}
	var now fate
	err := client.DoWith(context.Background(), func(tx *assent.Tx) error {
		calls, ids[tx.ID()] = calls+1, true
		now = next()
		return now.function
	}, func(tx *assent.Tx, _ context.Context) error {
		if now.happens {
			happened++
		}
		return now.learnt(tx)
	})
	switch {
	case len(ids) != calls:
		return "two attempts have one id"
	case happened > 1, (err == nil) && happened != 1:
		return fmt.Sprintf("%d attempts happened, and Do says %v", happened, err)
	case happened == 1 && err != nil && !errors.Is(err, assent.ErrUnknown):
		return fmt.Sprintf("one happened, and Do says %v", err)
	case happened == 0 && errors.Is(err, assent.ErrUnknown):
		return fmt.Sprintf("none happened, and Do says %v", err)
	}
	return ""
}
