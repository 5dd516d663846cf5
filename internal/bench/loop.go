// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// loop is a closed loop: each client does one operation after the other.
type loop struct {
	clients          int
	warmup, duration time.Duration
	// do is one operation of a client.
	do func(ctx context.Context, client int) error
	// progress, when not nil, hears how much time the loop has spent.
	progress func(spent time.Duration)
}

// measured is what a loop found.
type measured struct {
	perSecond float64
	latencies *hdrhistogram.Histogram // in nanoseconds, of what ended while it was measured
	succeeded int64                   // all, also before and after it was measured
	errors    int64                   // all
	firstErr  error
	cpu       time.Duration // of the process, while it was measured
}

// The phases of a loop.
const (
	warmingUp int32 = iota
	measuring
	ending
)

// running is a loop that runs.
type running struct {
	phase   atomic.Int32
	tallies []tally
}

// tally is what some of the clients found; they share it because a histogram is large.
type tally struct {
	mu        sync.Mutex
	latencies *hdrhistogram.Histogram
	succeeded int64
	errors    int64
	firstErr  error
}

// The range of latencies that are told apart, with three digits.
const (
	shortest = time.Microsecond
	longest  = 2 * time.Minute
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(shortest), int64(longest), 3)
}

// run measures. When ctx ends, so does it, with ctx's error.
func (l *loop) run(ctx context.Context) (*measured, error) {
	runtime.GC() // what was measured before leaves no garbage to this one
	r := &running{tallies: make([]tally, min(l.clients, 8))}
	for i := range r.tallies {
		r.tallies[i].latencies = newHistogram()
	}
	var clients sync.WaitGroup
	pprof.Do(ctx, pprof.Labels("part", "client"), func(ctx context.Context) {
		for client := range l.clients {
			clients.Go(func() { r.client(ctx, l, client) })
		}
	})
	err := l.wait(ctx, 0, l.warmup)
	r.phase.Store(measuring)
	started, cpu := time.Now(), cpuTime()
	if err == nil {
		err = l.wait(ctx, l.warmup, l.duration)
	}
	for extra := time.Duration(0); err == nil && extra < patience && r.nothing(); extra += pace {
		err = l.wait(ctx, l.warmup+l.duration, pace)
	}
	elapsed, cpu := time.Since(started), cpuTime()-cpu
	r.phase.Store(ending)
	clients.Wait()
	if err != nil {
		return nil, err
	}
	return r.sum(elapsed, cpu), nil
}

// client works until the loop ends.
func (r *running) client(ctx context.Context, l *loop, client int) {
	// A context of its own: what an operation hangs on its parent must not make the clients wait for one another.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &r.tallies[client%len(r.tallies)]
	for r.phase.Load() != ending && ctx.Err() == nil {
		begun := time.Now()
		err := l.do(ctx, client)
		t.add(time.Since(begun), err, r.phase.Load() == measuring)
	}
}

func (t *tally) add(latency time.Duration, err error, counts bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.errors++
		if t.firstErr == nil {
			t.firstErr = err
		}
		return
	}
	t.succeeded++
	if counts {
		// It cannot fail: the value is within the histogram's range.
		_ = t.latencies.RecordValue(int64(min(max(latency, shortest), longest)))
	}
}

// patience is how long one answer may take, and how much longer a loop is measured when nothing has ended, well or badly, while it was. A run
// keeps its machine as busy as it can be on purpose, and may share it with others; a disk can stand still. What takes longer has failed.
const patience = time.Minute

// newJetStream gives JetStream's client of a connection. By default one gives up after 5 s.
func newJetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	return jetstream.New(nc, jetstream.WithDefaultTimeout(patience))
}

func (r *running) nothing() bool {
	for i := range r.tallies {
		t := &r.tallies[i]
		t.mu.Lock()
		something := t.errors > 0 || t.latencies.TotalCount() > 0
		t.mu.Unlock()
		if something {
			return false
		}
	}
	return true
}

// pace is the time between two reports of progress.
const pace = 100 * time.Millisecond

// wait lets time pass, and tells of it.
func (l *loop) wait(ctx context.Context, spent, d time.Duration) error {
	started := time.Now()
	end := time.NewTimer(d)
	defer end.Stop()
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		if l.progress != nil {
			l.progress(min(spent+min(time.Since(started), d), l.warmup+l.duration))
		}
		select {
		case <-end.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

func (r *running) sum(elapsed, cpu time.Duration) *measured {
	m := &measured{latencies: newHistogram(), cpu: cpu}
	for i := range r.tallies {
		t := &r.tallies[i]
		m.latencies.Merge(t.latencies)
		m.succeeded += t.succeeded
		m.errors += t.errors
		if m.firstErr == nil {
			m.firstErr = t.firstErr
		}
	}
	m.perSecond = float64(m.latencies.TotalCount()) / elapsed.Seconds()
	return m
}

// quantile is a latency in milliseconds.
func (m *measured) quantile(percent float64) float64 {
	return milliseconds(m.latencies.ValueAtQuantile(percent))
}

func milliseconds(nanoseconds int64) float64 { return float64(nanoseconds) / 1e6 }
