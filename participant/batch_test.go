// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// batchHandler is a BatchHandler of functions; a nil one agrees.
type batchHandler struct {
	prepare   func(ctx context.Context, branches []*participant.Branch) []participant.Result
	finish    func(ctx context.Context, outcomes []participant.Outcome) []error
	mu        sync.Mutex
	prepares  []int // sizes of the calls
	committed []messages.ID
	aborted   []messages.ID
	running   [2]atomic.Int32
}

func (h *batchHandler) PrepareBatch(ctx context.Context, branches []*participant.Branch) []participant.Result {
	if h.running[0].Add(1) > 1 {
		panic("two calls of PrepareBatch run at once")
	}
	defer h.running[0].Add(-1)
	h.mu.Lock()
	h.prepares = append(h.prepares, len(branches))
	h.mu.Unlock()
	if h.prepare != nil {
		return h.prepare(ctx, branches)
	}
	return slices.Repeat([]participant.Result{{Vote: participant.Yes}}, len(branches))
}

func (h *batchHandler) FinishBatch(ctx context.Context, outcomes []participant.Outcome) []error {
	if h.running[1].Add(1) > 1 {
		panic("two calls of FinishBatch run at once")
	}
	defer h.running[1].Add(-1)
	if h.finish != nil {
		if errs := h.finish(ctx, outcomes); errs != nil {
			return errs
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range outcomes {
		if o.Commit {
			h.committed = append(h.committed, o.Tx)
		} else {
			h.aborted = append(h.aborted, o.Tx)
		}
	}
	return make([]error, len(outcomes))
}

func (h *batchHandler) count() (committed, aborted int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.committed), len(h.aborted)
}

// What comes while a call runs is the next call's, and each branch has its own answer.
func TestBatch(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := &batchHandler{}
		h.prepare = func(_ context.Context, branches []*participant.Branch) []participant.Result {
			<-time.After(100 * time.Millisecond) // the bubble's
			results := make([]participant.Result, len(branches))
			for i, b := range branches {
				var payload struct{ For string }
				if err := b.Decode(0, &payload); err != nil || payload.For != "p" {
					results[i].Err = errors.New("the wrong branch")
				} else if b.Trace == "refuse" {
					results[i].Err = participant.Refuse(errors.New("not this one"))
				} else {
					results[i].Vote = participant.Yes
				}
			}
			return results
		}
		w.joinWith(participant.Config{Name: "p", Batch: h})
		client, outcomes := w.client(), make(chan error, 100)
		for i := range 100 {
			go func() {
				trace := ""
				if i%4 == 0 {
					trace = "refuse"
				}
				outcomes <- commitTraced(w, client, "p", trace)
			}()
		}
		refused := 0
		for range 100 {
			if err := receive(w, outcomes, "an outcome"); err != nil {
				wantAbort(t, err, "p", "not this one")
				refused++
			}
		}
		eventually(t, "every commit", func() bool { committed, _ := h.count(); return committed == 75 })
		if _, aborted := h.count(); refused != 25 || aborted != 0 {
			t.Errorf("%d refused and %d rolled back, want 25 and none", refused, aborted)
		}
		if len(h.prepares) > 10 {
			t.Errorf("%d calls for 100 branches: %v", len(h.prepares), h.prepares)
		}
	})
}

// A batch that fails as a whole, in whatever way, is asked for again.
func TestBatchFails(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h := &batchHandler{}
		var prepares, finishes atomic.Int32
		h.prepare = func(_ context.Context, branches []*participant.Branch) []participant.Result {
			switch prepares.Add(1) {
			case 1:
				panic("a bug")
			case 2:
				return nil
			case 3:
				return make([]participant.Result, len(branches)+1)
			case 4:
				return make([]participant.Result, len(branches)) // no votes, no errors
			default:
				return slices.Repeat([]participant.Result{{Vote: participant.Yes}}, len(branches))
			}
		}
		h.finish = func(_ context.Context, outcomes []participant.Outcome) []error {
			switch finishes.Add(1) {
			case 1:
				panic("a bug")
			case 2:
				return []error{}
			case 3:
				return make([]error, len(outcomes)+1)
			case 4:
				return []error{errors.New("not now")}
			default:
				return nil
			}
		}
		w.joinWith(participant.Config{Name: "p", Batch: h})
		_, err := commit(w, w.client(), time.Minute, "p")
		must(t, err)
		eventually(t, "the commit", func() bool { committed, _ := h.count(); return committed == 1 })
		if prepares.Load() != 5 || finishes.Load() != 5 {
			t.Errorf("%d prepares and %d finishes, want 5 of each", prepares.Load(), finishes.Load())
		}
	})
}

// A drain lets a running batch end, and does not begin another.
func TestBatchDrain(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		h, begun := &batchHandler{}, make(chan int, 16)
		h.prepare = func(_ context.Context, branches []*participant.Branch) []participant.Result {
			begun <- len(branches)
			<-time.After(3 * time.Second) // the bubble's
			return slices.Repeat([]participant.Result{{Vote: participant.Yes}}, len(branches))
		}
		first := w.joinWith(participant.Config{Name: "p", Batch: h})
		client, outcomes := w.client(), make(chan error, 16)
		submit := func() {
			_, err := commit(w, client, time.Minute, "p")
			outcomes <- err
		}
		go submit()
		receive(w, begun, "a batch begins")
		go submit()
		go submit()
		<-time.After(time.Second) // the bubble's: they wait for the next batch
		first.end()
		must(t, receive(w, outcomes, "the outcome of the batch that ran"))
		if len(begun) != 0 {
			t.Error("a batch began while the instance drained")
		}
		start := time.Now()
		w.joinWith(participant.Config{Name: "p", Batch: h})
		must(t, receive(w, outcomes, "an outcome"))
		must(t, receive(w, outcomes, "an outcome"))
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("the next instance had finished after %v: it waited for the server to redeliver", took)
		}
		eventually(t, "every commit", func() bool { committed, _ := h.count(); return committed == 3 })
	})
}
