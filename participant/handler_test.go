// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// wantAbort expects an abort by a participant, for a reason.
func wantAbort(t testing.TB, err error, by, reason string) {
	t.Helper()
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.Participant != by || !strings.Contains(aborted.Reason, reason) {
		t.Errorf("got %v, want an abort by %q because of %q", err, by, reason)
	}
}

func TestVotes(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		yes, no, readOnly := newHandler(), newHandler(), newHandler()
		var refusal error
		no.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			return 0, participant.Refuse(refusal)
		}
		readOnly.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) { return participant.ReadOnly, nil }
		w.join("yes", yes)
		w.join("no", no)
		w.join("read-only", readOnly)
		client := w.client()

		tx, err := commit(w, client, time.Minute, "yes", "read-only")
		must(t, err)
		if got := receive(w, yes.committed, "a commit"); got != tx {
			t.Errorf("committed %s, want %s", got, tx)
		}
		for text, refusal2 := range map[string]error{
			"no money":    errors.New("no money"),
			"refused":     nil,
			"\ufffd\n\"<": errors.New("\xff\n\"<"),
		} {
			refusal = refusal2
			tx, err = commit(w, client, time.Minute, "yes", "no", "read-only")
			wantAbort(t, err, "no", text)
			for receive(w, yes.rolledBack, "a rollback") != tx { // one that was sent before the yes was stored is sent again after it
			}
		}
		<-time.After(time.Minute) // the bubble's: nothing is sent again
		if n := len(no.rolledBack) + len(no.committed) + len(readOnly.committed); n != 0 {
			t.Errorf("%d outcomes for participants that hold nothing", n)
		}
	})
}

func TestFailingPrepareIsRepeated(t *testing.T) {
	for name, fail := range map[string]func() (participant.Vote, error){
		"error":       func() (participant.Vote, error) { return participant.Yes, errors.New("the disk is slow") },
		"panic":       func() (participant.Vote, error) { panic("a bug") },
		"no vote":     func() (participant.Vote, error) { return 0, nil },
		"a vote no":   func() (participant.Vote, error) { return messages.VoteNo, nil },
		"nil pointer": func() (participant.Vote, error) { var b *participant.Branch; return 0, b.Decode(0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.coordinate(coordinator.Config{})
				h := newHandler()
				var calls atomic.Int32
				h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
					if calls.Add(1) < 5 {
						return fail()
					}
					return participant.Yes, nil
				}
				w.join("p", h)
				_, err := commit(w, w.client(), time.Minute, "p")
				must(t, err)
				if calls.Load() != 5 {
					t.Errorf("%d calls of Prepare, want 5", calls.Load())
				}
			})
		})
	}
}

// A Prepare that fails until the transaction expires aborts it, with the failure as the reason; what may be held is rolled back.
func TestFailingPrepareGivesUp(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		h.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			return 0, errors.New("the disk is gone")
		}
		w.join("p", h)
		start := time.Now()
		tx, err := commit(w, w.client(), 20*time.Second, "p")
		wantAbort(t, err, "p", "not prepared in time: the disk is gone")
		if took := time.Since(start); took < 18*time.Second || took > 21*time.Second {
			t.Errorf("it took %v, want almost the transaction's 20 s", took)
		}
		if got := receive(w, h.rolledBack, "a rollback"); got != tx {
			t.Errorf("rolled back %s, want %s", got, tx)
		}
	})
}

func TestFailingOutcomeIsRepeated(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h, no := newHandler(), newHandler()
		var calls atomic.Int32
		fail := func(context.Context, messages.ID) error {
			switch n := calls.Add(1); {
			case n%20 == 0:
				return nil
			case n%2 == 0:
				panic("a bug")
			default:
				return errors.New("not now")
			}
		}
		h.commit, h.rollback = fail, fail
		no.prepare = func(context.Context, *participant.Branch) (participant.Vote, error) {
			return 0, participant.Refuse(errors.New("no"))
		}
		w.join("p", h)
		w.join("no", no)
		client := w.client()
		_, err := commit(w, client, time.Minute, "p")
		must(t, err)
		receive(w, h.committed, "the commit succeeds")
		_, err = commit(w, client, time.Minute, "p", "no")
		wantAbort(t, err, "no", "no")
		receive(w, h.rolledBack, "the rollback succeeds")
		if calls.Load() < 40 { // more when the rollback came before the yes was stored, and again after it
			t.Errorf("%d calls, want 40", calls.Load())
		}
	})
}

// A handler may be slower than the server's patience for a prepare, which is 30 s: signs of life keep it.
func TestSlowPrepare(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		var calls atomic.Int32
		h.prepare = func(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
			calls.Add(1)
			<-time.After(5 * time.Minute) // the bubble's
			return participant.Yes, ctx.Err()
		}
		w.joinWith(participant.Config{Name: "p", Handler: h, CallTimeout: time.Hour})
		w.joinWith(participant.Config{Name: "p", Handler: h, CallTimeout: time.Hour})
		_, err := commit(w, w.client(), 10*time.Minute, "p")
		must(t, err)
		if calls.Load() != 1 {
			t.Errorf("%d calls of Prepare, want 1", calls.Load())
		}
	})
}

// Signs of life are given also while every place for a call is taken and another Prepare is due again.
func TestSlowPreparesInAllPlaces(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		var slow, calls atomic.Int32
		h.prepare = func(_ context.Context, b *participant.Branch) (participant.Vote, error) {
			calls.Add(1)
			if slow.Add(1) == 1 {
				return 0, errors.New("the first fails, and is to be asked again")
			}
			<-time.After(2 * time.Minute) // the bubble's
			return participant.Yes, nil
		}
		w.joinWith(participant.Config{Name: "p", Handler: h, Concurrency: 1, CallTimeout: time.Hour})
		client := w.client()
		errs := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := commit(w, client, 20*time.Minute, "p")
				errs <- err
			}()
		}
		eventually(w, "the place is taken", func() bool { return slow.Load() == 2 })
		w.joinWith(participant.Config{Name: "p", Handler: h, CallTimeout: time.Hour}) // would take what is redelivered
		for range 2 {
			must(t, receive(w, errs, "an outcome"))
		}
		if calls.Load() != 3 {
			t.Errorf("%d calls of Prepare, want 3: none came again", calls.Load())
		}
	})
}

func TestCallTimeout(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		limits := make(chan time.Duration, 16)
		limit := func(ctx context.Context) {
			start := time.Now()
			<-ctx.Done()
			limits <- time.Since(start).Round(time.Second)
		}
		var calls atomic.Int32
		h.prepare = func(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
			if calls.Add(1) == 1 {
				limit(ctx)
				return 0, ctx.Err()
			}
			return participant.Yes, nil
		}
		h.commit = func(ctx context.Context, _ messages.ID) error {
			if calls.Add(1) == 3 {
				limit(ctx)
				return ctx.Err()
			}
			return nil
		}
		w.joinWith(participant.Config{Name: "p", Handler: h, CallTimeout: 7 * time.Second})
		client := w.client()
		_, err := commit(w, client, time.Minute, "p")
		must(t, err)
		receive(w, h.committed, "the commit succeeds")
		for _, what := range []string{"Prepare", "Commit"} {
			if got := receive(w, limits, what); got != 7*time.Second {
				t.Errorf("the context of %s ended after %v, want 7s", what, got)
			}
		}
		calls.Store(0)
		if _, err = commit(w, client, 3*time.Second, "p"); err == nil {
			t.Error("committed, after its expiry")
		}
		if got := receive(w, limits, "Prepare"); got != 3*time.Second {
			t.Errorf("the context of Prepare ended after %v, want the transaction's 3s", got)
		}
	})
}

// While a Commit runs for long, the leader hears so, and does not send it again.
func TestSlowCommit(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		var calls atomic.Int32
		h.commit = func(context.Context, messages.ID) error {
			calls.Add(1)
			<-time.After(3 * time.Minute) // the bubble's
			return nil
		}
		w.joinWith(participant.Config{Name: "p", Handler: h, CallTimeout: time.Hour})
		dones := w.dones("p")
		tx, err := commit(w, w.client(), time.Minute, "p")
		must(t, err)
		working := 0
		for done := receive(w, dones, "a done"); done.Working; done = receive(w, dones, "a done") {
			if done.Tx != tx {
				t.Errorf("working on %s, want %s", done.Tx, tx)
			}
			working++
		}
		if working < 100 {
			t.Errorf("%d times the participant said that it was working, want about one a second", working)
		}
		if calls.Load() != 1 {
			t.Errorf("%d calls of Commit, want 1", calls.Load())
		}
	})
}

// What is applied at the same time is answered in one message.
func TestDonesLeaveTogether(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := newHandler()
		var calls, together atomic.Int32
		h.commit = func(context.Context, messages.ID) error {
			<-time.After(time.Duration(calls.Add(1)) * time.Millisecond) // the bubble's
			return nil
		}
		w.join("p", h)
		dones := w.dones("p")
		_, err := w.nc.Subscribe(messages.Subjects{}.Done(0, "p"), func(*nats.Msg) { together.Add(1) })
		must(w, err)
		const transactions = 20
		client, errs := w.client(), make(chan error, transactions)
		for range transactions {
			go func() {
				_, err := commit(w, client, time.Minute, "p")
				errs <- err
			}()
		}
		for range transactions {
			must(w, receive(w, errs, "an outcome"))
		}
		for range transactions {
			receive(w, dones, "a done")
		}
		<-time.After(time.Minute)        // the bubble's
		if n := together.Load(); n > 2 { // two, if a tick falls in between
			t.Errorf("%d messages of dones for %d outcomes", n, transactions)
		}
		if n := calls.Load(); n != transactions {
			t.Errorf("%d calls of Commit, want %d: an outcome was sent again", n, transactions)
		}
	})
}

// A done waits for other outcomes that are being applied, but not for long: neither while Run goes on nor while it ends.
func TestADoneWaitsForNoSlowOutcome(t *testing.T) {
	for _, name := range []string{"goes on", "ends"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.coordinate(coordinator.Config{})
				h := newHandler()
				var calls atomic.Int32
				h.commit = func(context.Context, messages.ID) error {
					if calls.Add(1) == 1 {
						<-time.After(time.Minute) // the bubble's
					}
					return nil
				}
				r := w.join("p", h)
				client, dones := w.client(), w.dones("p")
				slow, err := commit(w, client, time.Minute, "p")
				must(w, err)
				eventually(w, "the slow one is being applied", func() bool { return calls.Load() == 1 })
				tx, err := commit(w, client, time.Minute, "p")
				must(w, err)
				start := time.Now()
				if got := receive(w, h.committed, "a commit"); got != tx {
					t.Fatalf("committed %s, want %s", got, tx)
				}
				if name == "ends" {
					r.stop()
				}
				done := receive(w, dones, "a done")
				for ; done.Working; done = receive(w, dones, "a done") {
					if done.Tx != slow {
						t.Errorf("working on %s, want %s", done.Tx, slow)
					}
				}
				if done.Tx != tx {
					t.Errorf("done with %s, want %s", done.Tx, tx)
				}
				if took := time.Since(start); took > 60*time.Millisecond {
					t.Errorf("the done came after %v, want a tick of 50ms at the most", took)
				}
				if name == "ends" && r.wait() == nil {
					t.Error("Run ends without an error, with a call that does not end")
				}
				<-time.After(2 * time.Minute) // the bubble's
			})
		})
	}
}

// dones follows what participants answer to outcomes.
func (w *world) dones(name string) <-chan messages.Done {
	w.Helper()
	dones := make(chan messages.Done, 4096)
	var decoder messages.Decoder
	_, err := w.nc.Subscribe(messages.Subjects{}.Done(0, name), func(msg *nats.Msg) {
		for line := range messages.Lines(msg.Data) {
			var done messages.Done
			if err := decoder.Done(line, &done); err != nil {
				w.Errorf("done %q: %v", line, err)
			}
			dones <- done
		}
	})
	must(w, err)
	must(w, w.nc.Flush())
	return dones
}

// A resource that decided against the outcome is reported, and not asked again.
func TestHeuristic(t *testing.T) {
	for want, reason := range map[string]error{
		"an operator rolled it back": fmt.Errorf("bank: %w", participant.Heuristic(errors.New("an operator rolled it back"))),
		"decided against":            participant.Heuristic(nil),
	} {
		inBubble(t, func(w *world) {
			w.coordinate(coordinator.Config{})
			h := newHandler()
			var calls atomic.Int32
			h.commit = func(context.Context, messages.ID) error { calls.Add(1); return reason }
			w.join("p", h)
			dones := w.dones("p")
			_, err := commit(w, w.client(), time.Minute, "p")
			must(t, err)
			if got := receive(w, dones, "a done"); !strings.Contains(got.Heuristic, want) {
				t.Errorf("done with heuristic %q, want %q", got.Heuristic, want)
			}
			<-time.After(time.Minute) // the bubble's
			if calls.Load() != 1 {
				t.Errorf("%d calls of Commit, want 1", calls.Load())
			}
		})
	}
}

// Decoders are used again; what one payload leaves behind must not come to the next one.
func TestDecodeAgain(t *testing.T) {
	payloads := []string{`{"cents":1}`, ` {"cents":2} `, `{"cents":3}{"cents":-1}`, `{"cents":4,"more":1}`, `{"cents":`, `nul`, `5`, `"6"`, `{"cents":7}`}
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for range 200 {
				b := &participant.Branch{}
				for _, payload := range payloads {
					b.Operations = append(b.Operations, messages.Operation{Payload: []byte(payload)})
				}
				for _, i := range rand.Perm(len(payloads)) {
					var got, want struct {
						Cents int `json:"cents"`
					}
					decoder := json.NewDecoder(strings.NewReader(payloads[i]))
					decoder.DisallowUnknownFields()
					err, wantErr := b.Decode(i, &got), decoder.Decode(&want)
					if got != want || (err == nil) != (wantErr == nil) {
						t.Errorf("%s: %v, %v; want %v, %v", payloads[i], got, err, want, wantErr)
					}
				}
			}
		})
	}
	callers.Wait()
}

func TestDecode(t *testing.T) {
	b := &participant.Branch{Operations: []messages.Operation{{Payload: []byte(`{"cents":5}`)}, {Payload: []byte(`{"cents":"x"}`)}, {}}}
	var into struct{ Cents int }
	if err := b.Decode(0, &into); err != nil || into.Cents != 5 {
		t.Errorf("decoded %+v, %v", into, err)
	}
	for i := 1; i < 3; i++ {
		if err := b.Decode(i, &into); !errors.Is(err, participant.ErrRefused) || !strings.Contains(err.Error(), fmt.Sprintf("operation %d", i)) {
			t.Errorf("operation %d: got %v, want a refusal that names it", i, err)
		}
	}
}
