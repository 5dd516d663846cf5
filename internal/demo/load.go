// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
)

// transfer moves cents from an account of one bank to one of the other, and is what its client learnt.
type transfer struct {
	payer    int // the bank that pays; the other one receives
	from, to string
	cents    int64

	id           assent.ID
	began, ended time.Time
	outcome      assent.Outcome
	err          error // why the outcome is not known
}

// newTransfer makes the i-th transfer of a seed. One in twenty is for more than any account can ever hold.
func newTransfer(seed uint64, i int) transfer {
	random := rand.New(rand.NewPCG(seed, uint64(i)))
	t := transfer{
		payer: random.IntN(2),
		from:  accountName(random.IntN(accountsPerBank)),
		to:    accountName(random.IntN(accountsPerBank)),
		cents: 1 + random.Int64N(200_00),
	}
	if random.IntN(20) == 0 {
		t.cents += 2 * accountsPerBank * openingBalance
	}
	return t
}

// enlist puts both sides of the transfer into a transaction.
func (t *transfer) enlist(tx *assent.Tx) {
	tx.Enlist(bankNames[t.payer], bank.Entry{Account: t.from, Cents: -t.cents})
	tx.Enlist(bankNames[1-t.payer], bank.Entry{Account: t.to, Cents: t.cents})
}

// load is all the transfers, under way.
type load struct {
	transfers []transfer
	client    *assent.Client
	faults    *faults
	ended     atomic.Int64
	seconds   float64
}

// commitPatience is how long a client waits for an outcome before it goes on and asks again later.
const commitPatience = 10 * time.Second

// load runs all transfers while the faults happen, and then asks for every outcome that was not learnt.
func (c *cluster) load(ctx context.Context, cfg *Config) (*load, error) {
	client, err := assent.New(c.nc, assent.Config{Prefix: cfg.Prefix}) //nolint:contextcheck // a client ends with Close
	if err != nil {
		return nil, err
	}
	defer client.Close()
	l := &load{transfers: make([]transfer, cfg.Transfers), client: client, faults: c.plan(cfg)}
	for i := range l.transfers {
		l.transfers[i] = newTransfer(cfg.Seed, i)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	began := time.Now()
	var running sync.WaitGroup
	running.Go(func() {
		if err := l.faults.run(ctx); err != nil {
			fail(err)
		}
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		each(cfg.Concurrency, len(l.transfers), func(i int) { l.run(ctx, i) })
		running.Wait()
	}()
	l.watch(cfg, ended)
	l.seconds = time.Since(began).Seconds()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	l.settle(ctx)
	return l, context.Cause(ctx)
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

// run is one transfer, as its client sees it.
func (l *load) run(ctx context.Context, i int) {
	if !l.faults.pass(ctx, i) {
		return
	}
	t := &l.transfers[i]
	tx := l.client.Begin()
	t.id, t.began = tx.ID(), time.Now()
	t.enlist(tx)
	waiting, cancel := context.WithTimeout(ctx, commitPatience)
	defer cancel()
	t.learn(tx.Commit(waiting))
	t.ended = time.Now()
	l.faults.reach(int(l.ended.Add(1)))
}

// learn takes Commit's answer.
func (t *transfer) learn(err error) {
	switch {
	case err == nil:
		t.outcome, t.err = assent.Committed, nil
	case errors.Is(err, assent.ErrAborted):
		t.outcome, t.err = assent.Aborted, nil
	default:
		t.outcome, t.err = assent.Undecided, err
	}
}

// watch reports until the load has ended.
func (l *load) watch(cfg *Config, ended <-chan struct{}) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for over := false; !over; {
		select {
		case event := <-l.faults.events:
			cfg.Event(event)
		case <-ticker.C:
		case <-ended:
			over = true
		}
		cfg.Progress(int(l.ended.Load()), len(l.transfers))
	}
	for len(l.faults.events) > 0 {
		cfg.Event(<-l.faults.events)
	}
}

// settlePatience is how long the outcomes may take that were not learnt while processes were killed.
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
			return
		}
		t.outcome = outcome
		if err != nil {
			t.err = fmt.Errorf("%w (before: %w)", err, t.err)
		}
	})
}
