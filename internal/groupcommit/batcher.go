// SPDX-License-Identifier: Apache-2.0

package groupcommit

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/assent-tx/assent/messages"
)

// ErrClosed is what Append gives after Drain.
var ErrClosed = errors.New("groupcommit: the batcher is draining")

// Send brings one message to its subject and returns when its fate is known: the log sequence that it was stored at
// (0 where that has no meaning), or why it was not. The body is the caller's again when it returns.
type Send func(ctx context.Context, subject string, body []byte) (sequence uint64, err error)

// Config bounds a Batcher; zero fields mean the defaults.
type Config[T any] struct {
	// Send is how a message leaves; required.
	Send Send
	// Settled, when not nil, hears of each message: the tags of its records in order, and Send's result. It is called from
	// the lane's goroutine and should not block for long. The tags are valid during the call only.
	Settled func(subject string, tags []T, sequence uint64, err error)
	// MaxRecords and MaxBytes bound a message; defaults messages.MaxRecords and messages.MaxMessage.
	MaxRecords, MaxBytes int
	// MaxQueue is how many messages a lane holds that are not yet under way; an Append beyond it blocks. Default 16.
	MaxQueue int
}

// Batcher sends records in messages. T is a tag that comes back when the record's fate is known. Its methods may be
// called by many goroutines at once.
type Batcher[T any] struct {
	cfg    Config[T]
	ctx    context.Context //nolint:containedctx // ends what is under way, which outlives every Append; see New
	mu     sync.Mutex
	lanes  map[string]*lane[T]
	free   []*message[T]
	active int           // lanes whose goroutine runs
	idle   chan struct{} // closed when draining and active is 0
	closed bool
	// held counts the Holds that are not released; parked are the lanes that have begun to fill meanwhile.
	held   int
	parked []*lane[T]
}

// lane is one subject's records. Invariant: its goroutine runs exactly while queue is not empty or a message is under
// way, unless the lane is parked.
type lane[T any] struct {
	subject string
	queue   []*message[T]
	running bool
	room    chan struct{} // closed and made anew when a message leaves the queue; nil when nobody waits
}

type message[T any] struct {
	body []byte
	tags []T
}

// New gives a Batcher. When ctx ends, Send's context does, and what is not sent by then settles with an error.
func New[T any](ctx context.Context, cfg Config[T]) *Batcher[T] {
	if cfg.Send == nil {
		panic("groupcommit: Config.Send is required")
	}
	if cfg.MaxRecords <= 0 {
		cfg.MaxRecords = messages.MaxRecords
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = messages.MaxMessage
	}
	if cfg.MaxQueue <= 0 {
		cfg.MaxQueue = 16
	}
	return &Batcher[T]{cfg: cfg, ctx: ctx, lanes: make(map[string]*lane[T]), idle: make(chan struct{})}
}

// Append gives a record, which is copied, to a subject's lane. It blocks while the lane is full, until ctx ends; its
// error means that the record was not taken.
func (b *Batcher[T]) Append(ctx context.Context, subject string, record []byte, tag T) error {
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return ErrClosed
		}
		l := b.lane(subject)
		if m := b.room(l, len(record)+1); m != nil {
			m.body = append(append(m.body, record...), '\n')
			m.tags = append(m.tags, tag)
			b.start(l)
			b.mu.Unlock()
			return nil
		}
		b.unpark() // who waits for room must not wait for a Release
		if l.room == nil {
			l.room = make(chan struct{})
		}
		room := l.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *Batcher[T]) lane(subject string) *lane[T] {
	l := b.lanes[subject]
	if l == nil {
		l = &lane[T]{subject: subject}
		b.lanes[subject] = l
	}
	return l
}

// room is the message that takes the next record of size bytes; nil when the lane is full.
func (b *Batcher[T]) room(l *lane[T], size int) *message[T] {
	if last := len(l.queue) - 1; last >= 0 {
		m := l.queue[last]
		if len(m.tags) < b.cfg.MaxRecords && len(m.body)+size <= b.cfg.MaxBytes {
			return m
		}
	}
	if len(l.queue) >= b.cfg.MaxQueue {
		return nil
	}
	m := &message[T]{}
	if last := len(b.free) - 1; last >= 0 {
		m, b.free = b.free[last], b.free[:last]
	}
	l.queue = append(l.queue, m)
	return m
}

// start has a lane's goroutine run; one that begins while the batcher is held counts as active, but is parked.
func (b *Batcher[T]) start(l *lane[T]) {
	if l.running {
		return
	}
	l.running = true
	b.active++
	if b.held > 0 {
		b.parked = append(b.parked, l)
		return
	}
	go b.run(l)
}

// Hold is for one who is about to append a burst: until its Release no idle lane sets off, so that the burst's first
// record does not leave alone. Between the two nothing may wait for anything but room in a lane, unless somebody calls Flush.
func (b *Batcher[T]) Hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held++
}

// Release ends a Hold.
func (b *Batcher[T]) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held--; b.held == 0 {
		b.unpark()
	}
}

// Flush has the lanes set off that Holds have kept until now.
func (b *Batcher[T]) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unpark()
}

func (b *Batcher[T]) unpark() {
	for _, l := range b.parked {
		go b.run(l)
	}
	clear(b.parked)
	b.parked = b.parked[:0]
}

// run sends a lane's messages one after the other until there are none.
func (b *Batcher[T]) run(l *lane[T]) {
	for {
		// Let those who are about to append do so first: it costs nothing when nobody is.
		runtime.Gosched()
		m := b.next(l)
		if m == nil {
			return
		}
		sequence, err := b.cfg.Send(b.ctx, l.subject, m.body)
		if b.cfg.Settled != nil {
			b.cfg.Settled(l.subject, m.tags, sequence, err)
		}
		b.recycle(m)
	}
}

func (b *Batcher[T]) next(l *lane[T]) *message[T] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.queue) == 0 {
		l.running = false
		b.active--
		if len(b.lanes) > maxLanes { // reply subjects are used once
			delete(b.lanes, l.subject)
		}
		b.signalIdle()
		return nil
	}
	m := l.queue[0]
	l.queue = l.queue[:copy(l.queue, l.queue[1:])]
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
	return m
}

// maxFree bounds the buffers that are kept for use again, and maxKept the size of one that is.
const (
	maxFree = 64
	maxKept = 256 << 10
)

// maxLanes is how many lanes are kept while they are idle, so that the usual ones are not made again and again.
const maxLanes = 1024

func (b *Batcher[T]) recycle(m *message[T]) {
	if cap(m.body) > maxKept {
		return
	}
	clear(m.tags)
	m.body, m.tags = m.body[:0], m.tags[:0]
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) < maxFree {
		b.free = append(b.free, m)
	}
}

// Drain takes no more records and waits until the fate of all is known, or ctx ends. It waits for no Release.
func (b *Batcher[T]) Drain(ctx context.Context) error {
	b.mu.Lock()
	b.closed = true
	b.unpark()
	b.signalIdle()
	for _, l := range b.lanes {
		if l.room != nil {
			close(l.room)
			l.room = nil
		}
	}
	b.mu.Unlock()
	select {
	case <-b.idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// signalIdle closes idle, once, when the batcher drains and nothing runs.
func (b *Batcher[T]) signalIdle() {
	if !b.closed || b.active > 0 {
		return
	}
	select {
	case <-b.idle:
	default:
		close(b.idle)
	}
}
