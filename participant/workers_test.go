// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/assent-tx/assent/messages"
)

// gang is workers that note what they do. A call ends when it receives from gate.
type gang struct {
	*workers[int, int]
	gate     chan struct{}
	calling  atomic.Int32
	answered []int
}

// inGang runs a test with workers in a bubble, which no goroutine may outlive.
func inGang(t *testing.T, places int, test func(g *gang)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		g := &gang{gate: make(chan struct{})}
		g.workers = newWorkers(places, func(n int) int {
			g.calling.Add(1)
			defer g.calling.Add(-1)
			<-g.gate
			return -n
		}, func(items, results []int) {
			if len(items) != 1 || len(results) != 1 || results[0] != -items[0] {
				t.Errorf("%v was answered with %v", items, results)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			g.answered = append(g.answered, items...)
		})
		test(g)
	})
}

// atWork is how many workers there are, idle ones too, once all have come as far as they can.
func atWork() int {
	synctest.Wait()
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), ".(*workers[...]).work(")
}

// rounds has so many calls made at once, again and again.
func (g *gang) rounds(rounds, calls int) {
	for range rounds {
		for n := range calls {
			g.give(n)
		}
		for range calls {
			g.gate <- struct{}{}
		}
		synctest.Wait()
	}
}

func TestWorkersAreKept(t *testing.T) {
	inGang(t, 4, func(g *gang) {
		g.rounds(100, 3)
		if n := atWork(); n != 3 {
			t.Errorf("%d workers for 3 calls at once", n)
		}
		if len(g.answered) != 300 {
			t.Errorf("%d answers, want 300", len(g.answered))
		}
		g.close()
		g.wait()
		if n := atWork(); n != 0 {
			t.Errorf("%d workers outlive the end", n)
		}
	})
}

// Who gives more than there are places waits until one is free.
func TestWorkersArePlaces(t *testing.T) {
	inGang(t, 4, func(g *gang) {
		var given atomic.Int32
		for n := range 10 {
			go func() {
				g.give(n)
				given.Add(1)
			}()
		}
		for left := 10; left > 0; left-- {
			synctest.Wait()
			if calling, given := g.calling.Load(), given.Load(); calling != min(4, int32(left)) || given != 10-max(0, int32(left)-4) {
				t.Errorf("%d of 10 are left: %d are called and %d were given", left, calling, given)
			}
			g.gate <- struct{}{}
		}
		g.close()
		g.wait()
		if len(g.answered) != 10 {
			t.Errorf("%d answers, want 10", len(g.answered))
		}
	})
}

// While an answer takes its time the place is another's; the workers that are too many then do not stay.
func TestWorkersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := make(chan struct{})
		w := newWorkers(2, func(int) int { return 0 }, func(_, _ []int) { <-slow })
		for n := range 5 {
			w.give(n)
		}
		if n := atWork(); n != 5 {
			t.Errorf("%d workers for 5 answers", n)
		}
		close(slow)
		if n := atWork(); n != 2 {
			t.Errorf("%d workers wait for 2 places", n)
		}
		w.close()
		w.wait()
	})
}

// A worker that was of no use between two tidies ends; what is needed stays.
func TestIdleWorkersEnd(t *testing.T) {
	inGang(t, 8, func(g *gang) {
		g.rounds(1, 8)
		g.tidy()
		g.rounds(10, 2)
		if n := atWork(); n != 8 {
			t.Errorf("%d workers after the first tidy, want all 8: they had work before", n)
		}
		g.tidy()
		if n := atWork(); n != 2 {
			t.Errorf("%d workers after the second tidy, want the 2 that had work", n)
		}
		g.tidy()
		if n := atWork(); n != 0 {
			t.Errorf("%d workers after a tidy without work", n)
		}
		g.tidy()
		g.rounds(1, 3)
		if n := atWork(); n != 3 {
			t.Errorf("%d workers for 3 calls after all had ended", n)
		}
		g.close()
		g.tidy()
		g.wait()
	})
}

// With the end no call begins any more: neither one that is given then, nor one that waits for a place.
func TestWorkersClose(t *testing.T) {
	inGang(t, 1, func(g *gang) {
		g.give(1)
		var waiting sync.WaitGroup
		waiting.Go(func() { g.give(2) })
		synctest.Wait()
		g.close()
		waiting.Wait()
		g.give(3)
		ended := make(chan struct{})
		go func() {
			g.wait()
			close(ended)
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("the end does not wait for the call that runs")
		default:
		}
		g.gate <- struct{}{}
		<-ended
		if len(g.answered) != 1 || g.answered[0] != 1 {
			t.Errorf("answered %v, want the 1 that ran", g.answered)
		}
	})
}

// Given, tidied and closed at once, each item is answered once or, after close, never, and no worker is left.
func TestWorkersAtOnce(t *testing.T) {
	for range 200 {
		var calls, answers atomic.Int32
		w := newWorkers(3, func(n int) int { calls.Add(1); return n }, func(_, _ []int) { answers.Add(1) })
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for n := range 50 {
					w.give(n)
				}
			})
		}
		all.Go(func() {
			for range 50 {
				w.tidy()
				runtime.Gosched()
			}
		})
		runtime.Gosched()
		closing := calls.Load()
		w.close()
		w.wait()
		after := calls.Load()
		all.Wait()
		if calls.Load() != after || after != answers.Load() || after < closing {
			t.Fatalf("%d calls before the end, %d at the end, %d later, %d answers", closing, after, calls.Load(), answers.Load())
		}
		if len(w.idle) != 0 {
			t.Fatalf("%d workers wait for what does not come", len(w.idle))
		}
	}
}

// panicking is a handler that panics until it is told not to.
type panicking struct{ well atomic.Bool }

func (h *panicking) Prepare(context.Context, *Branch) (Vote, error) { return Yes, h.do() }
func (h *panicking) Commit(context.Context, messages.ID) error      { return h.do() }
func (h *panicking) Rollback(context.Context, messages.ID) error    { return h.do() }
func (h *panicking) do() error {
	if !h.well.Load() {
		panic("a bug")
	}
	return nil
}

// results notes what came of calls.
type results struct{ errs chan error }

func (r *results) prepared(_ []*Branch, results []Result) { r.errs <- results[0].Err }
func (r *results) finished(_ []Outcome, errs []error)     { r.errs <- errs[0] }

func TestAWorkerOutlivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, r := &panicking{}, &results{errs: make(chan error, 1)}
		s := newSingle(&Config{Handler: h, Concurrency: 1, CallTimeout: time.Second}, r)
		for _, well := range []bool{false, true} {
			h.well.Store(well)
			for range 3 {
				s.prepare(&Branch{Expires: time.Now().Add(time.Second)})
				if err := <-r.errs; (err == nil) != well {
					t.Errorf("prepare, well %t: %v", well, err)
				}
				s.finish(Outcome{Commit: true})
				if err := <-r.errs; (err == nil) != well {
					t.Errorf("commit, well %t: %v", well, err)
				}
			}
		}
		if n := atWork(); n != 2 {
			t.Errorf("%d workers, want one of each kind", n)
		}
		s.tidy()
		s.tidy()
		if n := atWork(); n != 0 {
			t.Errorf("%d workers after two tidies", n)
		}
		s.close()
		s.wait()
	})
}
