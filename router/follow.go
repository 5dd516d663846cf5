// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// The pace of a follower.
const (
	// followTime is the time between two reads that nothing was a reason for, give or take a fifth.
	followTime = 10 * time.Second
	// firstRetry and lastRetry are the pauses after a read that was not answered: the first, and at most.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// errNotRead is of a group of which nothing is known yet.
var errNotRead = errors.New("router: the ring has not been read yet")

// follower keeps the newest record of a group. It reads it from the stream's leader when it is told of a newer one, when the
// connection is back, and now and then. It never goes back in (incarnation, epoch). It is safe for concurrent use.
type follower struct {
	s     *store
	group string
	log   *logrus.Entry
	every time.Duration

	state  atomic.Pointer[followed]
	hints  *nats.Subscription
	hinted chan struct{}
	asks   chan *ask
	stop   context.CancelFunc
	done   chan struct{}
	over   sync.Once

	// Of the goroutine of run, but for tried.
	missing int
	tried   atomic.Pointer[hint] // the newest that was told when there was no record that could be read
	heard   atomic.Pointer[hint] // the newest that was told
	counts  followCounts
}

// followed is what a follower knows. Invariant: record never goes back.
type followed struct {
	record  *handoff.Record
	err     error
	changed chan struct{} // closed when there is another state
}

// followCounts is what came of the reads.
type followCounts struct{ reads, failed, stale, unreadable atomic.Uint64 }

// ask is somebody who waits for a read that begins after he asked.
type ask struct {
	begun  time.Time
	answer chan error
}

// follow begins to follow a group. The first read is under way when it returns.
func follow(s *store, group string) (*follower, error) { return followEvery(s, group, followTime) }

func followEvery(s *store, group string, every time.Duration) (*follower, error) {
	f := &follower{
		s: s, group: group, log: s.cfg.Log.WithField("group", group), every: every,
		hinted: make(chan struct{}, 1), asks: make(chan *ask), done: make(chan struct{}),
	}
	f.state.Store(&followed{err: errNotRead, changed: make(chan struct{})})
	var err error
	if f.hints, err = s.nc.Subscribe(s.names.hintSubject(group), f.hear); err != nil {
		return nil, fmt.Errorf("router: follow group %s: %w", group, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	go f.run(ctx)
	return f, nil
}

// close ends the following. What is known stays to be read.
func (f *follower) close() {
	f.over.Do(func() {
		_ = f.hints.Unsubscribe() // it fails when the connection is closed, which ends it too
		f.stop()
	})
	<-f.done
}

// current is the last good record, nil before the first, and what is wrong now: nil when nothing is; errNotRead before the first
// answer; ErrNoGroup when there is no such group (then the record is of one that was deleted, and nobody owns anything);
// ErrRecord or ErrNewerRecord when what is stored cannot be read, and the last good record stays in force.
func (f *follower) current() (*handoff.Record, error) {
	state := f.state.Load()
	return state.record, state.err
}

// record is the last good record; nil before the first.
func (f *follower) record() *handoff.Record { return f.state.Load().record }

// changed is closed when current is not any more what it is now. Get it first, then look at current.
func (f *follower) changed() <-chan struct{} { return f.state.Load().changed }

// refresh reads once, beginning after the call, and waits for the answer; patiently, as servers restart. The error is
// what current's is then, or the context's, or that of a server that does not answer.
func (f *follower) refresh(ctx context.Context) error {
	a := &ask{time.Now(), make(chan error, 1)}
	select {
	case f.asks <- a:
	case <-f.done:
		return fmt.Errorf("router: %w", ErrClosed)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-a.answer:
		return err
	case <-f.done:
		return fmt.Errorf("router: %w", ErrClosed)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hear takes a hint. One that names nothing newer than what is known, or than what could not be read, is no reason to read.
func (f *follower) hear(msg *nats.Msg) {
	var h hint
	if json.Unmarshal(msg.Data, &h) != nil {
		return // anybody's
	}
	if r := f.record(); r != nil && !newer(h.Incarnation, h.Epoch, r.Incarnation, r.Epoch) {
		return
	}
	if tried := f.tried.Load(); tried != nil && !newer(h.Incarnation, h.Epoch, tried.Incarnation, tried.Epoch) {
		return
	}
	f.heard.Store(&h)
	select {
	case f.hinted <- struct{}{}:
	default:
	}
}

// run reads when there is a reason.
func (f *follower) run(ctx context.Context) {
	defer close(f.done)
	connected := f.s.nc.StatusChanged(nats.CONNECTED)
	defer f.s.nc.RemoveStatusListener(connected)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var waiting []*ask
	var retry time.Duration
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-f.hinted:
		case <-connected:
		case a := <-f.asks:
			waiting = append(waiting, a)
		}
		waiting = f.gather(waiting)
		err := f.read(ctx)
		waiting = f.answer(waiting, err)
		if err == nil {
			retry = 0
			timer.Reset(f.every*4/5 + rand.N(f.every*2/5+1))
		} else {
			retry = min(max(2*retry, firstRetry), lastRetry)
			timer.Reset(retry/2 + rand.N(retry/2))
		}
	}
}

// gather adds those who ask at the same time: one read is enough for all.
func (f *follower) gather(waiting []*ask) []*ask {
	for {
		select {
		case a := <-f.asks:
			waiting = append(waiting, a)
		default:
			return waiting
		}
	}
}
