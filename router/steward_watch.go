// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// watch reads the bucket of the rings in the order in which it was written: what is there, and what comes. One that has missed
// something, or may have, is replaced: to read everything anew is simpler than to find out.
type watch struct {
	items   chan watchedItem
	broken  chan error // why it is to be replaced
	created time.Time  // of the stream
	target  uint64     // the stream's last sequence when it began: what is read then is all that there was
	last    uint64     // the last sequence that was taken
	stalled uint64     // one more than last when it was behind the stream; 0 when it was not
	done    bool       // it has caught up
	stop    func()
}

// watchedItem is a message of the bucket.
type watchedItem struct {
	item
	pending uint64
}

const (
	// watchRoom is how many messages may wait to be taken.
	watchRoom = 512
	// watchExpiry and watchBeat are how long one request for messages lasts, and how often the server says meanwhile that it lives.
	watchExpiry = 10 * time.Second
	watchBeat   = time.Second
	// watchGone is after which time without a reader the server forgets the consumer.
	watchGone = time.Minute
)

// restart begins to watch from the beginning, and forgets what was read before.
func (t *tenure) restart(ctx context.Context) error {
	if t.watch != nil {
		t.watch.stop()
	}
	t.groups, t.watch = make(map[string]*watched), &watch{stop: func() {}}
	if err := t.s.open(ctx); err != nil { // somebody may have deleted it
		return err
	}
	return persist(ctx, func(attempt context.Context) error {
		w, err := t.s.watch(attempt)
		if err == nil {
			t.watch = w
		}
		return err
	})
}

// watch begins to watch, until it is stopped.
func (s *store) watch(ctx context.Context) (*watch, error) {
	stream, err := s.js.Stream(ctx, s.names.stream())
	if err != nil {
		return nil, fmt.Errorf("router: watch the rings: %w", err)
	}
	info := stream.CachedInfo()
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		FilterSubject: s.names.allKeys(), DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: watchGone,
	})
	if err != nil {
		return nil, fmt.Errorf("router: watch the rings: %w", err)
	}
	w := &watch{items: make(chan watchedItem, watchRoom), broken: make(chan error, 1), created: info.Created, target: info.State.LastSeq}
	if consumer.CachedInfo().NumPending == 0 {
		w.catchUp()
	}
	stopped := make(chan struct{})
	consuming, err := consumer.Consume(w.handler(stopped), jetstream.PullExpiry(watchExpiry), jetstream.PullHeartbeat(watchBeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) { w.fail(err) }))
	if err != nil {
		return nil, fmt.Errorf("router: watch the rings: %w", err)
	}
	w.stop = func() {
		consuming.Stop()
		close(stopped)
	}
	return w, nil
}

// handler gives on what comes, as long as nothing is missing.
func (w *watch) handler(stopped <-chan struct{}) jetstream.MessageHandler {
	var count uint64
	return func(msg jetstream.Msg) {
		meta, err := msg.Metadata()
		if err == nil && meta.Sequence.Consumer != count+1 {
			err = fmt.Errorf("message %d came after %d", meta.Sequence.Consumer, count)
		}
		if err != nil {
			w.fail(err)
			return
		}
		count++
		it := watchedItem{item{msg.Subject(), rawOf(meta.Sequence.Stream, msg.Headers(), msg.Data())}, meta.NumPending}
		select {
		case w.items <- it:
		case <-stopped:
		}
	}
}

// fail says once that the watch is to be replaced.
func (w *watch) fail(err error) {
	select {
	case w.broken <- err:
	default:
	}
}

func (w *watch) catchUp() { w.done, w.last = true, max(w.last, w.target) }

func (w *watch) caughtUp() bool { return w.done }

// took notes how far the watch has come.
func (w *watch) took(it watchedItem) {
	w.last = max(w.last, it.raw.revision)
	if it.pending == 0 || w.last >= w.target {
		w.catchUp()
	}
}

// guarded is what the stream says of itself.
type guarded struct {
	created time.Time
	last    uint64
	err     error
}

// guard asks the stream how far it is. A watch that has stalled, for whatever reason, must not keep rings as they are for ever.
func (t *tenure) guard(ctx context.Context) {
	if t.guarding {
		return
	}
	t.guarding = true
	t.running.Go(func() {
		attempt, cancel := context.WithTimeout(ctx, streams.AttemptTime)
		defer cancel()
		var g guarded
		stream, err := t.s.js.Stream(attempt, t.s.names.stream())
		if g.err = err; err == nil {
			g.created, g.last = stream.CachedInfo().Created, stream.CachedInfo().State.LastSeq
		}
		select {
		case t.guarded <- g:
		case <-ctx.Done():
		}
	})
}

// lags says why the watch is to be replaced; nil when it is not.
func (t *tenure) lags(g guarded) error {
	w := t.watch
	switch {
	case errors.Is(g.err, jetstream.ErrStreamNotFound):
		return errors.New("the bucket was deleted")
	case g.err != nil:
		return nil //nolint:nilerr // the server does not answer, which says nothing of the watch
	case !g.created.Equal(w.created):
		return errors.New("the bucket was made anew")
	case g.last <= w.last:
		w.stalled = 0
	case w.stalled == w.last+1:
		return errors.New("the watch has stalled")
	default:
		w.stalled = w.last + 1
	}
	for _, group := range t.groups {
		if !group.blocked.IsZero() && time.Since(group.blocked) >= guardTime {
			return fmt.Errorf("group %s was changed, and that was not heard of", group.name)
		}
	}
	return nil
}
