// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/assent-tx/assent/internal/panics"
	"github.com/assent-tx/assent/messages"
)

// caller calls the application's handler. Its prepare and finish return once the call is accepted, which may take until
// another one ends: that is the back-pressure on who delivers.
type caller interface {
	prepare(b *Branch)
	finish(o Outcome)
	// tidy lets go of what had no use since the last tidy.
	tidy()
	// close lets no call begin any more, also none that waits for its turn: another instance will be asked.
	close()
	// wait until no call runs; it comes after close.
	wait()
}

// answers is where a caller brings what the handler said. The slices are the caller's again afterwards.
type answers interface {
	prepared([]*Branch, []Result)
	finished([]Outcome, []error)
}

// single calls a Handler, each branch in a goroutine of its own. Prepares and outcomes have places of their own, so that
// prepares which wait for something can never hold back the commits that would free it.
type single struct {
	handler  Handler
	timeout  time.Duration
	prepares *workers[*Branch, Result]
	outcomes *workers[Outcome, error]
}

func newSingle(cfg *Config, to answers) *single {
	s := &single{handler: cfg.Handler, timeout: cfg.CallTimeout}
	s.prepares = newWorkers(cfg.Concurrency, s.callPrepare, to.prepared)
	s.outcomes = newWorkers(cfg.Concurrency, s.callFinish, to.finished)
	return s
}

func (s *single) prepare(b *Branch) { s.prepares.give(b) }
func (s *single) finish(o Outcome)  { s.outcomes.give(o) }

func (s *single) callPrepare(b *Branch) (r Result) {
	defer contain(&r.Err)
	ctx, cancel := context.WithDeadline(context.Background(), earliest(time.Now().Add(s.timeout), b.Expires))
	defer cancel()
	r.Vote, r.Err = s.handler.Prepare(ctx, b)
	return r
}

func (s *single) callFinish(o Outcome) (err error) {
	defer contain(&err)
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	if o.Commit {
		return s.handler.Commit(ctx, o.Tx)
	}
	return s.handler.Rollback(ctx, o.Tx)
}

func (s *single) tidy() {
	s.prepares.tidy()
	s.outcomes.tidy()
}

func (s *single) close() {
	s.prepares.close()
	s.outcomes.close()
}

func (s *single) wait() {
	s.prepares.wait()
	s.outcomes.wait()
}

// batch calls a BatchHandler: one call of each kind at a time, with all that gathered meanwhile.
type batch struct {
	handler  BatchHandler
	timeout  time.Duration
	answers  answers
	prepares gatherer[*Branch]
	outcomes gatherer[Outcome]
}

func newBatch(cfg *Config, to answers) *batch {
	b := &batch{handler: cfg.Batch, timeout: cfg.CallTimeout, answers: to}
	b.prepares.init(b.callPrepare)
	b.outcomes.init(b.callFinish)
	return b
}

func (b *batch) prepare(branch *Branch) { b.prepares.add(branch) }
func (b *batch) finish(o Outcome)       { b.outcomes.add(o) }

func (b *batch) callPrepare(branches []*Branch) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	results, err := func() (results []Result, err error) {
		defer contain(&err)
		return b.handler.PrepareBatch(ctx, branches), nil
	}()
	if err == nil && len(results) != len(branches) {
		err = fmt.Errorf("PrepareBatch gave %d results for %d branches", len(results), len(branches))
	}
	if err != nil {
		results = make([]Result, len(branches))
		for i := range results {
			results[i].Err = err
		}
	}
	b.answers.prepared(branches, results)
}

func (b *batch) callFinish(outcomes []Outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), b.timeout)
	defer cancel()
	errs, err := func() (errs []error, err error) {
		defer contain(&err)
		return b.handler.FinishBatch(ctx, outcomes), nil
	}()
	if err == nil && len(errs) != len(outcomes) {
		err = fmt.Errorf("FinishBatch gave %d errors for %d outcomes", len(errs), len(outcomes))
	}
	if err != nil {
		errs = make([]error, len(outcomes))
		for i := range errs {
			errs[i] = err
		}
	}
	b.answers.finished(outcomes, errs)
}

func (*batch) tidy() {}

func (b *batch) close() {
	b.prepares.close()
	b.outcomes.close()
}

func (b *batch) wait() {
	b.prepares.wait()
	b.outcomes.wait()
}

// gatherer makes batches of what is added while a call runs.
type gatherer[T any] struct {
	mu      sync.Mutex
	changed sync.Cond
	call    func([]T)
	pending []T
	running bool
	closed  bool
}

// maxGathered bounds what waits for the next call; who adds more waits.
const maxGathered = 16 * messages.MaxRecords

func (g *gatherer[T]) init(call func([]T)) {
	g.call = call
	g.changed.L = &g.mu
}

func (g *gatherer[T]) add(item T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending) >= maxGathered && !g.closed {
		g.changed.Wait()
	}
	if g.closed {
		return
	}
	g.pending = append(g.pending, item)
	if !g.running {
		g.running = true
		go g.run()
	}
}

func (g *gatherer[T]) run() {
	for {
		g.mu.Lock()
		n := min(len(g.pending), messages.MaxRecords)
		if n == 0 {
			g.running = false
			g.changed.Broadcast()
			g.mu.Unlock()
			return
		}
		items := append([]T(nil), g.pending[:n]...)
		g.pending = g.pending[:copy(g.pending, g.pending[n:])]
		g.changed.Broadcast()
		g.mu.Unlock()
		g.call(items)
	}
}

func (g *gatherer[T]) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.pending = true, nil
	g.changed.Broadcast()
}

func (g *gatherer[T]) wait() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running {
		g.changed.Wait()
	}
}

// contain makes an error of a panic.
func contain(err *error) {
	if reason := recover(); reason != nil {
		*err = panics.Recovered("the handler", reason)
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
