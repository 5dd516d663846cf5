// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/integration/ledger"
)

// book is what the clients were told.
type book struct {
	mu      sync.Mutex
	entries map[assent.ID]*entry
}

// entry is one transaction in the book.
type entry struct {
	id    assent.ID
	banks []string
	// outcome is what the client was told; Undecided with an err that says it was not accepted, or is unknown.
	outcome assent.Outcome
	err     error
}

func (b *book) write(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries == nil {
		b.entries = make(map[assent.ID]*entry)
	}
	b.entries[e.id] = e
}

// count counts the entries with an outcome.
func (b *book) count(outcome assent.Outcome) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.outcome == outcome {
			n++
		}
	}
	return n
}

// order is a transfer to be made.
type order struct {
	from, to         string
	cents            int64
	timeout          time.Duration
	trouble          string // of the bank that pays
	id               assent.ID
	options          []assent.TxOption
	giveUp           time.Duration // how long the client waits; 0 until it knows
	fromAcct, toAcct int
	keyed            bool // it locks its accounts
}

// payload is what a bank's operation says; see node/bank.go.
type payload struct {
	ledger.Move
	Trouble string `json:"trouble,omitempty"`
}

// hot are the accounts of the transfers that lock theirs: so few that some have to wait.
const hot = 3

// some gives an arbitrary transfer; one in ten is overdrawn, and has to be refused; half of them lock their accounts.
func (c *cluster) some(r *rand.Rand) order {
	at := r.Perm(len(c.names))
	o := order{from: c.names[at[0]], to: c.names[at[1]], cents: 1 + r.Int64N(50), timeout: 2 * time.Second}
	o.fromAcct, o.toAcct = r.IntN(ledger.Accounts), r.IntN(ledger.Accounts)
	if r.IntN(10) == 0 {
		o.cents = ledger.Opening * ledger.Accounts * 10
	}
	if o.keyed = r.IntN(2) == 0; o.keyed {
		o.fromAcct, o.toAcct = o.fromAcct%hot, o.toAcct%hot
	}
	return o
}

// draft makes the transaction of an order.
func (c *cluster) draft(o order) *assent.Tx {
	options := append([]assent.TxOption{assent.WithTimeout(o.timeout)}, o.options...)
	if !o.id.IsZero() {
		options = append(options, assent.WithID(o.id))
	}
	tx := c.client.Begin(options...)
	keys := func(account int) assent.OpOption {
		if o.keyed {
			return assent.Keys(fmt.Sprint("account/", account))
		}
		return assent.Keys()
	}
	tx.Enlist(o.from, payload{ledger.Move{Account: o.fromAcct, Cents: -o.cents}, o.trouble}, keys(o.fromAcct))
	tx.Enlist(o.to, payload{ledger.Move{Account: o.toAcct, Cents: o.cents}, ""}, keys(o.toAcct))
	return tx
}

// do makes a transfer and writes into the book what the client was told.
func (c *cluster) do(o order) *entry {
	ctx := context.Background() // the client's own patience ends it
	if o.giveUp > 0 {
		timed, cancel := context.WithTimeout(ctx, o.giveUp)
		defer cancel()
		ctx = timed
	}
	return c.commit(ctx, c.draft(o), o.from, o.to)
}

// commit commits a transaction of some banks.
func (c *cluster) commit(ctx context.Context, tx *assent.Tx, banks ...string) *entry {
	e := &entry{id: tx.ID(), banks: banks}
	switch e.err = tx.Commit(ctx); {
	case e.err == nil:
		e.outcome = assent.Committed
	case errors.Is(e.err, assent.ErrAborted):
		e.outcome = assent.Aborted
	}
	c.book.write(e)
	return e
}

// want makes a transfer that has to end in a certain way.
func (c *cluster) want(outcome assent.Outcome, o order) *entry {
	c.t.Helper()
	e := c.do(o)
	if e.outcome != outcome {
		c.t.Errorf("%s: %v, %v; want %v", e.id, e.outcome, e.err, outcome)
	}
	return e
}

// endWithTest stops workers of a test that fails before it has stopped them. They would go on without a client, beside the other tests, and
// tell of that when theirs is over.
func (c *cluster) endWithTest(workers *sync.WaitGroup, stop func()) {
	c.t.Cleanup(func() {
		stop()
		if c.t.Failed() {
			c.client.Close() // nobody wants to know how what is under way ends
		}
		workers.Wait()
	})
}

// load is transfers that go on until stop.
type load struct {
	c       *cluster
	workers sync.WaitGroup
	stopped atomic.Bool
	done    atomic.Int64
}

// load makes arbitrary transfers by several clients at once.
func (c *cluster) load(workers int) *load {
	return c.busy(workers, func(i int) func() {
		r := rand.New(rand.NewPCG(c.seed, uint64(i)+1))
		return func() { c.do(c.some(r)) }
	})
}

// busy has several clients at once do one transfer after the other, each what is made for its number.
func (c *cluster) busy(workers int, transfer func(i int) func()) *load {
	l := &load{c: c}
	c.endWithTest(&l.workers, func() { l.stopped.Store(true) })
	for i := range workers {
		do := transfer(i)
		l.workers.Go(func() {
			for !l.stopped.Load() {
				do()
				l.done.Add(1)
			}
		})
	}
	return l
}

// also makes one transfer beside the others.
func (l *load) also(o order) {
	l.workers.Go(func() { l.c.do(o) })
}

// more waits until n more transfers have ended.
func (l *load) more(n int64) {
	l.c.t.Helper()
	want := l.done.Load() + n
	eventually(l.c.t, fmt.Sprintf("%d more transfers", n), func() error {
		if done := l.done.Load(); done < want {
			return fmt.Errorf("%d are left", want-done)
		}
		return nil
	})
}

// stop ends the load, and waits for what is under way.
func (l *load) stop() {
	l.stopped.Store(true)
	l.workers.Wait()
}

// transfers makes n transfers by a few clients at once.
func (c *cluster) transfers(n int64) {
	c.t.Helper()
	l := c.load(4)
	l.more(n)
	l.stop()
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
