// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Election is a place that one of several candidates has at a time.
type Election struct {
	s    *Session
	name string
}

// Leader is who leads.
type Leader struct {
	Holder
	// None: nobody leads; the Holder is zero.
	None bool `json:"none"`
}

// Election gives an election by name. Nothing is sent yet.
func (s *Session) Election(name string) (*Election, error) {
	if err := CheckKey(name); err != nil {
		return nil, err
	}
	return &Election{s, name}, nil
}

// Campaign waits until this candidate leads, as Session.Lock waits for a lock. It leads until it resigns (Lock.Unlock: the
// next candidate leads at once) or Lock.Done is closed. What it does as the leader should carry Lock.Token.
func (e *Election) Campaign(ctx context.Context, opts ...Option) (*Lock, error) {
	return e.s.acquire(ctx, wish{kind: KindElection, key: e.name}, opts)
}

// Observe tells who leads: at once, and whenever that changes, until ctx or the session ends; then the channel is closed. It
// tells the newest state, and may leave out what came between. A leader that died is told until the next one leads, or until
// somebody finds out.
func (e *Election) Observe(ctx context.Context) <-chan Leader {
	out := make(chan Leader)
	go e.observe(ctx, out)
	return out
}

func (e *Election) observe(ctx context.Context, out chan<- Leader) {
	defer close(out)
	ctx, cancel := e.s.bounded(ctx)
	defer cancel()
	b := e.s.bucket
	at := b.place(string(KindElection), e.name)
	hints := make(chan struct{}, 1)
	// A write to the record passes by here before it is stored: a reason to look, no more.
	hint, err := b.nc.Subscribe(at.subject, func(*nats.Msg) { nudge(hints) })
	if err == nil {
		defer func() { _ = hint.Unsubscribe() }()
	}
	var told, newest Leader
	var send chan<- Leader
	for first, look := true, true; ; {
		if look {
			if leader, err := e.leader(ctx, at); err == nil && (first || leader != told) {
				newest, send, first = leader, out, false
			} else if err == nil {
				send = nil
			}
		}
		look = true
		select {
		case send <- newest:
			told, send, look = newest, nil, false
		case <-hints:
			e.s.pause(hintTime)
		case <-time.After(e.s.pollTime()):
		case <-ctx.Done():
			return
		}
	}
}

// hintTime is how long a write that passed by is given to be stored.
const hintTime = 2 * time.Millisecond

func nudge(hints chan<- struct{}) {
	select {
	case hints <- struct{}{}:
	default:
	}
}

func (e *Election) leader(ctx context.Context, at place) (Leader, error) {
	r, _, err := e.s.get(ctx, at)
	if err != nil {
		return Leader{}, err
	}
	if len(r.Holders) == 0 {
		return Leader{None: true}, nil
	}
	return Leader{Holder: holders(e.s.bucket, at, &r)[0]}, nil
}
