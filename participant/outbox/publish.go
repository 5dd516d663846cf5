// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/crash"
)

// publisher publishes intents.
type publisher struct {
	name    string // the outbox's
	nc      *nats.Conn
	js      jetstream.JetStream
	streams *streams
	seekers seekers
	stats   *stats
	// patience is how long publish waits for a stream that acknowledges nothing. What it acknowledges later is taken by the next
	// call, so that a stream which is out of reach holds up the others once, for no longer than this.
	patience time.Duration
	late     lateness
}

// publish publishes what is left of the intents, and gives an error for each, nil when all of it is stored, and all of its
// core messages are at the server.
//
// They go in waves: the next message of each, together, in their order; then, of those of which that one is stored, the
// next. So a transaction's messages are stored in order, also when one fails in the middle.
func (p *publisher) publish(ctx context.Context, intents []*intent) []error {
	errs, began := make([]error, len(intents)), make([]int, len(intents))
	p.resolve(ctx, intents, errs)
	for i, in := range intents {
		began[i] = in.next
	}
	core := p.waves(ctx, intents, errs)
	if core {
		ctx, cancel := context.WithTimeout(ctx, ackTimeout)
		defer cancel()
		if err := p.nc.FlushWithContext(ctx); err != nil {
			for i, in := range intents {
				if in.core() {
					errs[i] = errors.Join(errs[i], fmt.Errorf("flushing core messages: %w", err))
				}
			}
		}
	}
	crash.Here("outbox.published")
	for i, in := range intents {
		p.stats.published(in.tx, in.next-began[i], errs[i])
	}
	return errs
}

// core tells whether any of its messages is one of core NATS.
func (in *intent) core() bool {
	for _, m := range in.messages {
		if m.Message.Core {
			return true
		}
	}
	return false
}

// waves sends and awaits until everything is stored or has failed, and tells whether it sent core messages.
func (p *publisher) waves(ctx context.Context, intents []*intent, errs []error) (core bool) {
	for {
		under := false
		for i, in := range intents {
			if errs[i] == nil && !in.published() {
				sent, err := p.send(in)
				core, errs[i], under = core || sent, err, under || in.await != nil
			}
		}
		if !under {
			return core
		}
		p.late.began = time.Now()
		for i, in := range intents {
			if errs[i] == nil && in.await != nil {
				errs[i] = p.awaited(ctx, in)
			}
		}
	}
}

// lateness is for how long streams have acknowledged nothing.
type lateness struct {
	began time.Time // the wave
	// heard is when a stream acknowledged something last.
	heard map[string]time.Time
	// silent are streams that used up the patience, and have not been heard since: they are not waited for again.
	silent map[string]bool
}

// left is how long a stream may stay silent still.
func (l *lateness) left(stream string, patience time.Duration) time.Duration {
	if l.silent[stream] {
		return 0
	}
	since := l.began
	if heard := l.heard[stream]; heard.After(since) {
		since = heard
	}
	return max(patience-time.Since(since), 0)
}

// send sends the next message of an intent, unless it is under way already; core messages before it too.
func (p *publisher) send(in *intent) (core bool, err error) {
	for !in.published() && in.messages[in.next].Message.Core {
		msg := in.messages[in.next].Message.message(messageID(in.tx, p.name, in.next))
		if err := p.nc.PublishMsg(msg); err != nil {
			return core, fmt.Errorf("publish %s: %w", msg.Subject, err)
		}
		core = true
		in.acknowledged()
	}
	if in.published() || in.await != nil {
		return core, nil
	}
	if in.since.IsZero() {
		in.since = time.Now()
	}
	msg := in.messages[in.next].Message.message(messageID(in.tx, p.name, in.next))
	in.await, err = p.js.PublishMsgAsync(msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		in.await, err = nil, fmt.Errorf("publish %s: %w", msg.Subject, err)
	}
	return core, err
}

// awaited waits for the acknowledgement of an intent's next message.
func (p *publisher) awaited(ctx context.Context, in *intent) error {
	stream, ok, failed := in.messages[in.next].Stream, in.await.Ok(), in.await.Err()
	select { // what has come is taken, however late it is
	case <-ok:
		return p.heard(in, nil)
	case err := <-failed:
		return p.heard(in, err)
	default:
	}
	timer := time.NewTimer(p.late.left(stream, p.patience))
	defer timer.Stop()
	select {
	case <-ok:
		return p.heard(in, nil)
	case err := <-failed:
		return p.heard(in, err)
	case <-timer.C:
		p.late.silent[stream] = true
	case <-ctx.Done():
	}
	return fmt.Errorf("publish %s to stream %s: not acknowledged yet", in.messages[in.next].Message.Subject, stream)
}

// heard takes what became of an intent's next message: it is stored, or, with an error, its fate is unknown.
func (p *publisher) heard(in *intent, err error) error {
	m := in.messages[in.next]
	if err != nil {
		in.await = nil
		return fmt.Errorf("publish %s to stream %s: %w", m.Message.Subject, m.Stream, err)
	}
	p.late.heard[m.Stream] = time.Now()
	delete(p.late.silent, m.Stream)
	in.acknowledged()
	return nil
}
