// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
)

// leases takes what a client's transactions lock, in one session of package locks: it is opened when it is first needed, and
// anew when it was lost.
type leases struct {
	nc  *nats.Conn
	cfg locks.Config
	log *logrus.Entry
	// life ends with the client: who waits for an outcome waits no more, and gives back at once.
	life context.Context //nolint:containedctx // of the goroutines that give back, which no call's context bounds
	stop context.CancelFunc
	// opening has room for the one who opens a session.
	opening chan struct{}

	mu      sync.Mutex
	session *locks.Session
	closed  bool
	waiting sync.WaitGroup // those who give something back
}

func newLeases(nc *nats.Conn, cfg locks.Config, log *logrus.Entry) *leases {
	life, stop := context.WithCancel(context.Background())
	return &leases{nc: nc, cfg: cfg, log: log, life: life, stop: stop, opening: make(chan struct{}, 1)}
}

// take takes all keys or none, and waits for them until ctx ends. Sessions that are lost meanwhile are replaced.
func (l *leases) take(ctx context.Context, keys []string) (locks.Locks, error) {
	wants := make([]locks.Want, len(keys))
	for i, key := range keys {
		wants[i].Key = key
	}
	for {
		session, err := l.live(ctx)
		if err != nil {
			return nil, err
		}
		held, err := session.LockAll(ctx, wants)
		switch {
		case err == nil:
			return held, nil
		case ctx.Err() == nil && errors.Is(err, locks.ErrLost):
		case errors.Is(err, locks.ErrClosed):
			return nil, ErrClosed
		default:
			return nil, err
		}
	}
}

// live gives the session, or another one when it was lost.
func (l *leases) live(ctx context.Context) (*locks.Session, error) {
	select {
	case l.opening <- struct{}{}:
		defer func() { <-l.opening }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l.mu.Lock()
	session, closed := l.session, l.closed
	l.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	if session != nil && session.Err() == nil {
		return session, nil
	}
	session, err := locks.Open(ctx, l.nc, l.cfg)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		l.leave(session) //nolint:contextcheck // also when ctx has ended
		return nil, ErrClosed
	}
	l.session = session
	return session, nil
}

// later has f called in a goroutine of its own, for which close waits; not at all when that has begun, for it gives
// everything back.
func (l *leases) later(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.waiting.Go(f)
	}
}

// giveBackLater is giveBack for which only close waits.
func (l *leases) giveBackLater(held locks.Locks) { l.later(func() { l.giveBack(held) }) }

// giveBack gives locks back. It ends by itself, and not when the client does: what has begun is no longer the session's to
// give. What cannot be given back now is free when the session ends.
func (l *leases) giveBack(held locks.Locks) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), goodbye)
	defer cancel()
	if err := held.Unlock(ctx); err != nil && !errors.Is(err, locks.ErrLost) && !errors.Is(err, locks.ErrNotHeld) {
		l.log.WithError(err).Warn("locks of a transaction could not be given back; they are free when the session of this client ends")
	}
}

// goodbye bounds how long giving back takes, in the background or at the end of the client.
const goodbye = 5 * time.Second

// close gives everything back, and ends the session.
func (l *leases) close() {
	l.mu.Lock()
	session := l.session
	l.closed = true
	l.mu.Unlock()
	l.stop()
	l.waiting.Wait()
	if session != nil {
		l.leave(session)
	}
}

// leave ends a session in order.
func (l *leases) leave(session *locks.Session) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.life), goodbye)
	defer cancel()
	if err := session.Close(ctx); err != nil {
		l.log.WithError(err).Debug("the session of the locks was not closed in order; what it held is free after its TTL")
	}
}

// tokens are the locks as a submission carries them.
func tokens(held locks.Locks) []messages.Lock {
	all := make([]messages.Lock, len(held))
	for i, lock := range held {
		all[i] = messages.Lock{Key: lock.Key(), Token: lock.Token().String()}
	}
	return all
}
