// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// requests sends messages that are answered, several at once, and waits for all their answers together: a request by itself costs a
// goroutine, a timer and a wake-up.
type requests struct {
	publish func(*nats.Msg) error // the connection's
	inbox   string                // what the subjects of answers begin with; a number follows
	sub     *nats.Subscription
	busy    chan struct{} // has an item for each message under way, but for the first one of each batch
	next    atomic.Uint64

	mu   sync.Mutex
	open map[uint64]place
}

// place is where an answer belongs.
type place struct {
	batch *batch
	i     int
}

// batch is the messages of one call, sent and waited for by one goroutine.
type batch struct {
	r     *requests
	first uint64 // the first message's number
	sent  int
	timer *time.Timer
	over  bool // the time was over before all were sent

	// Guarded by r.mu until wait returns.
	answers []*nats.Msg
	missing int
	done    chan struct{} // closed when nothing is missing
}

func newRequests(nc *nats.Conn, busy chan struct{}) (*requests, error) {
	r := &requests{publish: nc.PublishMsg, inbox: nc.NewInbox() + ".", busy: busy, open: make(map[uint64]place)}
	var err error
	if r.sub, err = nc.Subscribe(r.inbox+"*", r.answered); err != nil {
		return nil, fmt.Errorf("kv: %w", err)
	}
	return r, nil
}

// close ends it: no answer is heard any more.
func (r *requests) close() { _ = r.sub.Unsubscribe() } // fails when the connection is closed

// begin begins a batch of n messages, for whose answers it waits that long from now on. Call send n times, and then wait.
func (r *requests) begin(n int, patience time.Duration) *batch {
	b := &batch{
		r: r, first: r.next.Add(uint64(n)) - uint64(n), timer: time.NewTimer(patience),
		answers: make([]*nats.Msg, n), missing: n, done: make(chan struct{}),
	}
	if n == 0 {
		close(b.done)
	}
	return b
}

// send sends the next message. It waits while too many are under way.
func (b *batch) send(ctx context.Context, msg *nats.Msg) {
	if b.over {
		return
	}
	if b.sent > 0 {
		select {
		case b.r.busy <- struct{}{}:
		case <-b.timer.C:
			b.over = true
			return
		case <-ctx.Done():
			b.over = true
			return
		}
	}
	n := b.first + uint64(b.sent)
	b.r.mu.Lock()
	b.r.open[n] = place{b, b.sent}
	b.r.mu.Unlock()
	b.sent++
	msg.Reply = b.r.inbox + strconv.FormatUint(n, 36)
	if b.r.publish(msg) != nil {
		b.r.settle(n, nil)
	}
}

// wait gives the answers in the messages' order, nil where there is none: the message was not sent, or its time is over, or ctx has ended.
func (b *batch) wait(ctx context.Context) []*nats.Msg {
	if !b.over {
		select {
		case <-b.done:
		case <-b.timer.C:
		case <-ctx.Done():
		}
	}
	b.timer.Stop()
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	for i := range b.sent {
		b.r.drop(b.first + uint64(i))
	}
	return b.answers
}

func (r *requests) answered(msg *nats.Msg) {
	if n, err := strconv.ParseUint(strings.TrimPrefix(msg.Subject, r.inbox), 36, 64); err == nil {
		r.settle(n, msg)
	}
}

// settle takes an answer, or that there will be none. What comes twice, or late, is nobody's.
func (r *requests) settle(n uint64, answer *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, open := r.drop(n)
	if !open {
		return
	}
	p.batch.answers[p.i] = answer
	if p.batch.missing--; p.batch.missing == 0 {
		close(p.batch.done)
	}
}

// drop ends the waiting for an answer, if there is any. It needs mu.
func (r *requests) drop(n uint64) (place, bool) {
	p, open := r.open[n]
	if open {
		delete(r.open, n)
		if p.i > 0 {
			<-r.busy
		}
	}
	return p, open
}
