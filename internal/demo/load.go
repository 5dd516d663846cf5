// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tx/assent"
)

// load is all the transfers, under way, and what happens meanwhile.
type load struct {
	transfers []transfer // those that have begun are final when the load is over
	client    *assent.Client
	pace      *pace
	script    *script
	seconds   float64
}

// commitPatience is how long a client waits for an outcome before it goes on and asks again later.
const commitPatience = 10 * time.Second

// load runs transfers while things happen, and then asks for every outcome that was not learnt.
func (c *cluster) load(ctx context.Context, cfg *Config) (*load, error) {
	client, err := assent.New(c.nc, assent.Config{Prefix: cfg.Prefix}) //nolint:contextcheck // a client ends with Close
	if err != nil {
		return nil, err
	}
	defer client.Close() //nolint:contextcheck // also when ctx has ended
	l := &load{client: client, pace: newPace(), script: c.scene.script(c)}
	l.transfers = make([]transfer, l.script.most(cfg))
	total := int64(len(c.scene.places())) * openingBalance
	for i := range l.transfers {
		l.transfers[i] = newTransfer(cfg.Seed, i, total, c.scene.pair)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer context.AfterFunc(ctx, func() { l.pace.finish(0) })()
	began := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.run(ctx, cfg, fail)
	}()
	l.watch(cfg, ended)
	l.seconds = time.Since(began).Seconds()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	begun, _ := l.pace.now()
	l.transfers = l.transfers[:begun]
	l.settle(ctx)
	return l, context.Cause(ctx)
}

// run is the clients, and the script beside them, until both are through.
func (l *load) run(ctx context.Context, cfg *Config, fail context.CancelCauseFunc) {
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.script.play(ctx, l.pace, cfg); err != nil {
			fail(err) // which says nothing if it has ended before
		}
	})
	for range min(cfg.Concurrency, len(l.transfers)) {
		running.Go(func() {
			for {
				i, ok := l.pace.next()
				if !ok || ctx.Err() != nil {
					return
				}
				l.transfers[i].run(ctx, l.client)
				l.pace.end()
			}
		})
	}
	running.Wait()
}

// run is one transfer, as its client sees it.
func (t *transfer) run(ctx context.Context, client *assent.Client) {
	tx := client.Begin()
	t.id, t.began = tx.ID(), time.Now()
	t.enlist(tx)
	waiting, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	t.learn(tx.Commit(waiting))
	t.last, t.ended = tx.Last(), time.Now()
}

// watch reports until the load has ended.
func (l *load) watch(cfg *Config, ended <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case event := <-l.script.events:
			cfg.Event(event)
		case <-ticker.C:
		case <-ended:
			over = true
		}
		_, done := l.pace.now()
		cfg.Progress(done, len(l.transfers))
	}
	for len(l.script.events) > 0 {
		cfg.Event(<-l.script.events)
	}
}

// settlePatience is how long the outcomes may take that were not learnt while things happened.
const settlePatience = 40 * time.Second

// settle asks for the outcomes that are not known, by id. What never reached the log is submitted again, under the same
// id.
func (l *load) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	var open []*transfer
	for i := range l.transfers {
		if l.transfers[i].outcome == assent.Undecided {
			open = append(open, &l.transfers[i])
		}
	}
	each(64, len(open), func(i int) {
		t := open[i]
		outcome, err := l.client.Wait(ctx, t.id)
		if errors.Is(err, assent.ErrNotFound) {
			tx := l.client.Begin(assent.WithID(t.id))
			t.enlist(tx)
			t.learn(tx.Commit(ctx))
			t.last = tx.Last()
			return
		}
		t.outcome, t.last = outcome, assent.ID{} // of which try it is, the log says
		if err != nil {
			t.err = fmt.Errorf("%w (before: %w)", err, t.err)
		}
	})
}

// each calls do for 0 to n-1, so many at once.
func each(concurrency, n int, do func(i int)) {
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(concurrency, n) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	running.Wait()
}
