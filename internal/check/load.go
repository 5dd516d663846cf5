// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/internal/check/store"
	"github.com/assent-tx/assent/internal/elle"
)

// load is the clients.
type load struct {
	cfg      *Config
	client   *assent.Client
	planner  planner
	recorder *recorder
	ear      *ear
	buckets  *buckets // of the workload KV

	begun                                               atomic.Int64
	ended, committed, aborted, conflicts, unknown, lost atomic.Int64
}

const (
	// timeout is how long a transaction has to be decided: longer than any fault.
	timeout = 20 * time.Second
	// hearPatience is how long a client waits for what a committed transaction read: it has been told already, unless it is lost.
	hearPatience = 500 * time.Millisecond
	// waitPatience is how long a client asks for an outcome that it did not learn.
	waitPatience = 40 * time.Second
)

// attempt is one transaction under way.
type attempt struct {
	process int32
	tx      *assent.Tx
	ops     []elle.Operation
	heard   *hearing
}

// run lets all clients make transactions until enough says so, and returns when all have ended.
func (l *load) run(ctx context.Context, enough func(begun int64) bool) {
	var running sync.WaitGroup
	for i := range l.cfg.Clients {
		r := rand.New(rand.NewPCG(l.cfg.Seed, uint64(i)+1))
		running.Go(func() {
			for ctx.Err() == nil && !enough(l.begun.Add(1)-1) {
				l.transact(ctx, int32(i), func() []elle.Operation { return l.planner.next(r) })
			}
		})
	}
	running.Wait()
}

// transact makes one transaction, and again under other ids as long as others are in its way. In the history each is one of its own: what
// it appends must be told apart.
func (l *load) transact(ctx context.Context, process int32, ops func() []elle.Operation) {
	var a *attempt
	err := l.client.Do(ctx, func(tx *assent.Tx) error {
		if a != nil {
			l.conflicts.Add(1)
			l.end(a, elle.Fail, "another transaction was in the way")
		}
		a = l.begin(process, tx, ops())
		if l.buckets == nil {
			l.enlist(a)
			return nil
		}
		var err error
		a.heard, err = l.buckets.run(ctx, tx, a.ops, l.planner.place)
		return err
	}, assent.WithTimeout(timeout))
	if errors.Is(err, assent.ErrUnknown) {
		err = l.ask(ctx, a, err)
	}
	l.settle(a, err)
}

// begin records a transaction.
func (l *load) begin(process int32, tx *assent.Tx, ops []elle.Operation) *attempt {
	l.recorder.record(&elle.Event{Type: elle.Invoke, Process: process, Tx: tx.ID().String(), Operations: ops})
	return &attempt{process: process, tx: tx, ops: ops}
}

// enlist puts a transaction together.
func (l *load) enlist(a *attempt) {
	reads := 0
	for i := range a.ops {
		o := store.Operation{Op: string(a.ops[i].Op), Key: a.ops[i].Key}
		if a.ops[i].Value != nil {
			o.Value = *a.ops[i].Value
		}
		keys := assent.Keys(o.Key)
		if a.ops[i].Op == elle.Read || a.ops[i].Op == elle.Balance {
			o.Report, o.Number = l.ear.subject, i
			keys = assent.SharedKeys(o.Key)
			reads++
		}
		participant := l.cfg.participant(l.planner.place(o.Key))
		if l.cfg.NoKeys {
			a.tx.Enlist(participant, o)
		} else {
			a.tx.Enlist(participant, o, keys)
		}
	}
	a.heard = l.ear.expect(a.tx.ID().String(), reads)
}

// ask asks for an outcome that was not learnt. It gives what Commit would have.
func (l *load) ask(ctx context.Context, a *attempt, before error) error {
	ctx, cancel := context.WithTimeout(ctx, waitPatience)
	defer cancel()
	outcome, err := l.client.Wait(ctx, a.tx.ID())
	switch {
	case err != nil: // also ErrNotFound: it may still come
		return before
	case outcome == assent.Committed:
		return nil
	default:
		return assent.ErrAborted
	}
}

// settle records how a transaction ended.
func (l *load) settle(a *attempt, err error) {
	defer l.ended.Add(1)
	switch {
	case err == nil:
		l.committed.Add(1)
		l.end(a, elle.OK, "")
	case errors.Is(err, assent.ErrUnknown):
		l.unknown.Add(1)
		l.end(a, elle.Info, err.Error())
	default: // it was aborted, or not accepted
		l.aborted.Add(1)
		l.end(a, elle.Fail, err.Error())
	}
}

// end records the end of a transaction, with what it read if it is committed.
func (l *load) end(a *attempt, how elle.EventType, why string) {
	e := &elle.Event{Type: how, Process: a.process, Tx: a.tx.ID().String(), Error: why}
	if how == elle.OK {
		timer := time.NewTimer(hearPatience)
		defer timer.Stop()
		select {
		case <-a.heard.all:
		case <-timer.C: // what was told is lost
		}
	}
	heard := l.ear.done(e.Tx, a.heard)
	if how == elle.OK {
		e.Operations = l.results(a.ops, heard)
	}
	l.recorder.record(e)
}

// results are the operations with what was read.
func (l *load) results(ops []elle.Operation, heard map[int]store.Read) []elle.Operation {
	done := make([]elle.Operation, len(ops))
	for i, o := range ops {
		read, known := heard[i]
		switch {
		case o.Op != elle.Read && o.Op != elle.Balance:
		case !known:
			l.lost.Add(1)
		case o.Op == elle.Read:
			o.Values = append([]int64{}, read.Values...)
		default:
			o.Value = &read.Balance
		}
		done[i] = o
	}
	return done
}

// readAll reads everything, when nothing goes wrong any more.
func (l *load) readAll(ctx context.Context) {
	last := l.planner.last()
	var next atomic.Int64
	var running sync.WaitGroup
	for i := range l.cfg.Clients {
		running.Go(func() {
			for at := next.Add(1) - 1; at < int64(len(last)) && ctx.Err() == nil; at = next.Add(1) - 1 {
				l.transact(ctx, int32(i), func() []elle.Operation { return last[at] })
			}
		})
	}
	running.Wait()
}
