// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assent-tx/assent/locks/internal/agent"
	"github.com/assent-tx/assent/locks/internal/record"
)

// Lock is something held: a lock, a permit of a semaphore, or the leadership of an election. It is safe for concurrent
// use.
type Lock struct {
	e      *entry
	id     string
	token  Token
	shared bool
	ended  chan agent.Ended
	done   chan struct{}

	mu  sync.Mutex
	err error // why it is not held any more
}

// Option changes one call.
type Option func(*wish)

// wish is what a call wants.
type wish struct {
	kind    Kind
	key     string
	owner   string
	shared  bool
	permits int
	try     bool
	limited bool
	limit   time.Duration
	onQueue func(Position)
}

// Shared lets others hold the lock at the same time, if they take it shared too. Who wants it alone waits for all of them,
// and those who come after him wait for him. It means nothing for semaphores and elections, which refuse it.
func Shared() Option { return func(w *wish) { w.shared = true } }

// Wait bounds the waiting: after d the call gives up with an ErrHeld. Without it only the context bounds it. 0 does not wait
// at all.
func Wait(d time.Duration) Option {
	return func(w *wish) { w.limited, w.limit, w.try = true, d, d <= 0 }
}

// Owner says who holds or waits, in place of Config.Owner; at most 64 bytes of UTF-8.
func Owner(text string) Option { return func(w *wish) { w.owner = text } }

// OnQueue has f called when the call has to wait, and when its place in the queue changes, as far as that becomes known; from
// the goroutine of the call.
func OnQueue(f func(Position)) Option { return func(w *wish) { w.onQueue = f } }

// Position is the place of somebody who waits.
type Position struct {
	// Ahead is how many wait before, 0 for the next one.
	Ahead int
	// Holders are those who hold it now.
	Holders []Holder
}

// Holder is somebody who holds a key.
type Holder struct {
	// Session is the id of the session, Owner who it is, for people.
	Session string `json:"session"`
	Owner   string `json:"owner"`
	Shared  bool   `json:"shared"`
	// Since is when it was granted, by the clock of who granted it.
	Since time.Time `json:"since"`
	Token Token     `json:"token"`
}

// Waiter is somebody who waits for a key.
type Waiter struct {
	Session string    `json:"session"`
	Owner   string    `json:"owner"`
	Shared  bool      `json:"shared"`
	Since   time.Time `json:"since"`
}

// Lock takes a key, and waits for it as long as ctx lives: first come, first served. Whoever holds it should look at
// Lock.Done or Lock.Err, and have the resources that it protects check Lock.Token (package fence). Locks are not
// re-entrant: a second Lock on a key waits for the first, also in one session.
//
// Ending ctx withdraws the call. The error is then the context's; otherwise ErrHeld when an option limits the waiting,
// ErrLost or ErrClosed when the session is over, ErrInvalid for a key that is none, or what the server said when it has no
// room for the lock.
func (s *Session) Lock(ctx context.Context, key string, opts ...Option) (*Lock, error) {
	return s.acquire(ctx, wish{kind: KindLock, key: key}, opts)
}

// TryLock takes a key if it can be had at once. Otherwise the error is a *HeldError, an ErrHeld, also when the holder is dead: that takes
// its TTL to find out, which the session does meanwhile, so that a later call gets the key.
func (s *Session) TryLock(ctx context.Context, key string, opts ...Option) (*Lock, error) {
	return s.acquire(ctx, wish{kind: KindLock, key: key}, append(opts, Wait(0)))
}

// Do takes a key, calls f, and gives the key back. The context of f ends when ctx does, or when the lock is lost (then its
// cause is an ErrLost). The error is that of Lock, or that of f joined with that of Unlock.
func (s *Session) Do(ctx context.Context, key string, f func(ctx context.Context, token Token) error, opts ...Option) (err error) {
	l, err := s.Lock(ctx, key, opts...)
	if err != nil {
		return err
	}
	inner, cancel := l.Context(ctx)
	defer func() { // also when f panics
		cancel()
		unlocking, stop := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.TTL)
		defer stop()
		err = errors.Join(err, l.Unlock(unlocking))
	}()
	return f(inner, l.Token())
}

// Do is Session.Do.
func Do(ctx context.Context, s *Session, key string, f func(ctx context.Context, token Token) error, opts ...Option) error {
	return s.Do(ctx, key, f, opts...)
}

func (s *Session) acquire(ctx context.Context, w wish, opts []Option) (*Lock, error) {
	for _, o := range opts {
		o(&w)
	}
	await, err := s.begin(ctx, &w, nil)
	if err != nil {
		return nil, err
	}
	return await()
}

// begin begins an operation, and gives a function that waits for its end.
func (s *Session) begin(ctx context.Context, w *wish, together *gathering) (await func() (*Lock, error), err error) {
	if err := s.check(w); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("locks: %q: %w", w.key, err)
	}
	op := record.Operation{
		ID: s.number(), Owner: w.owner, Shared: w.shared, Try: w.try, Permits: w.permits, TTL: ms(s.cfg.TTL), Since: time.Now().UnixMilli(),
	}
	c := &call{granted: make(chan *Lock, 1), ended: make(chan agent.Ended, 1), places: make(chan int, 1), shared: w.shared}
	e, err := s.join(w, op, c, together)
	if err != nil {
		return nil, err
	}
	return func() (*Lock, error) { return e.await(ctx, w, op.ID, c) }, nil
}

func (s *Session) check(w *wish) error {
	if w.owner == "" {
		w.owner = s.cfg.Owner
	}
	if err := checkOwner(w.owner); err != nil {
		return err
	}
	if w.shared && w.kind != KindLock {
		return fmt.Errorf("locks: %w: the %s %q: only locks are shared", ErrInvalid, w.kind, w.key)
	}
	if err := CheckKey(w.key); err != nil {
		return err
	}
	return s.usable()
}

// join lets the key's agent begin an operation.
func (s *Session) join(w *wish, op record.Operation, c *call, together *gathering) (*entry, error) {
	for {
		e := s.entry(w.kind, w.key)
		if e.doTogether(together, func(a *agent.Agent, now int64) []agent.Effect {
			e.calls[op.ID] = c
			return a.Join(now, op)
		}) {
			return e, nil
		}
		if err := s.usable(); err != nil {
			return nil, err
		}
	}
}

// await waits until an operation holds, or is over.
func (e *entry) await(ctx context.Context, w *wish, id string, c *call) (*Lock, error) {
	var limit <-chan time.Time
	if w.limited && !w.try {
		timer := time.NewTimer(w.limit)
		defer timer.Stop()
		limit = timer.C
	}
	for {
		select {
		case l := <-c.granted:
			if err := e.s.Err(); err != nil { // it came too late to be relied on
				return nil, err
			}
			return l, nil
		case end := <-c.ended:
			return nil, e.refused(w, &end)
		case ahead := <-c.places:
			if w.onQueue != nil {
				known := e.known()
				w.onQueue(Position{ahead, e.holders(&known)})
			}
		case <-limit:
			known := e.withdraw(id)
			return nil, e.held(w, &known)
		case <-ctx.Done():
			e.withdraw(id)
			return nil, fmt.Errorf("locks: waiting for %q: %w", w.key, context.Cause(ctx))
		case <-e.s.leaving:
			e.withdraw(id)
			return nil, fmt.Errorf("locks: waiting for %q: %w", w.key, ErrClosed)
		case <-e.s.done:
			return nil, e.s.Err()
		}
	}
}

// withdraw ends an operation that nobody waits for any more; what it may have got is given back.
func (e *entry) withdraw(id string) record.Record {
	e.do(func(a *agent.Agent, now int64) []agent.Effect {
		delete(e.calls, id)
		return a.Leave(now, id, true)
	})
	return e.known()
}

// refused says why an operation was not taken.
func (e *entry) refused(w *wish, end *agent.Ended) error {
	switch end.Why {
	case agent.Busy, agent.Full:
		return e.held(w, &end.Record)
	case agent.Permits:
		return fmt.Errorf("locks: %w: the %s %q is in use with %d permits, and wanted with %d", ErrConflict, w.kind, w.key, end.Record.Permits, w.permits)
	case agent.Forced, agent.Gone: // it was taken, and taken away before anybody had looked
		return fmt.Errorf("locks: the %s %q: %w", w.kind, w.key, lostFor(end.Why))
	default:
		e.mu.Lock()
		defer e.mu.Unlock()
		return fmt.Errorf("locks: the %s %q was not taken: %w", w.kind, w.key, e.failure)
	}
}

// held says who is in the way, and has it found out whether they are alive.
func (e *entry) held(w *wish, r *record.Record) error {
	e.s.suspect(e, r)
	return &HeldError{Kind: w.kind, Key: w.key, Holders: e.holders(r), Waiters: len(r.Queue)}
}

func (e *entry) holders(r *record.Record) []Holder {
	return holders(e.s.bucket, e.at, r)
}

// Key is what is held.
func (l *Lock) Key() string { return l.e.key }

// Token is the fencing token of this grant, for the resources that the lock protects.
func (l *Lock) Token() Token { return l.token }

// Shared tells whether others may hold it at the same time.
func (l *Lock) Shared() bool { return l.shared }

// Done is closed when the lock is not held any more, or may not be: it was given back, the session is over, or somebody
// released it by force (which is noticed when the message about it comes, or at Unlock). Err says which.
func (l *Lock) Done() <-chan struct{} { return l.done }

// Err is nil while the lock is held; ErrNotHeld when it was given back, ErrLost when it is lost or may be, ErrClosed
// when its session was closed. It is as exact as Session.Err.
func (l *Lock) Err() error {
	l.mu.Lock()
	err := l.err
	l.mu.Unlock()
	if err == nil {
		err = l.e.s.Err()
	}
	return err
}

// Context is a context that ends when parent does, or when the lock is not held any more; then its cause is Err. Call
// cancel when it is of no more use.
func (l *Lock) Context(parent context.Context) (ctx context.Context, cancel context.CancelFunc) {
	held, end := context.WithCancelCause(parent)
	go func() {
		select {
		case <-l.done:
			end(l.Err())
		case <-held.Done():
		}
	}()
	return held, func() { end(context.Canceled) }
}

// Unlock gives the lock back, to the next who waits for it. nil says that it was held until then.
//
// ErrNotHeld: it was given back before. ErrLost: it was lost before, and somebody else may have held it meanwhile.
// ErrUnknown: ctx ended before NATS acknowledged it; the session goes on trying to give it back.
func (l *Lock) Unlock(ctx context.Context) error {
	await, err := l.giveUp(ctx, nil)
	if err != nil {
		return err
	}
	return await()
}

// giveUp begins to give the lock back, and gives a function that waits for the end of that.
func (l *Lock) giveUp(ctx context.Context, together *gathering) (await func() error, err error) {
	if err := l.release(); err != nil {
		return nil, err
	}
	l.e.doTogether(together, func(a *agent.Agent, now int64) []agent.Effect { return a.Leave(now, l.id, false) })
	return func() error { return l.awaitEnd(ctx) }, nil
}

func (l *Lock) awaitEnd(ctx context.Context) error {
	select {
	case end := <-l.ended:
		return l.outcome(&end)
	case <-l.e.s.done:
		select { // it may have been given back just before
		case end := <-l.ended:
			return l.outcome(&end)
		default:
		}
		return fmt.Errorf("locks: unlock %q: %w before it was given back", l.e.key, ErrLost)
	case <-ctx.Done():
		return fmt.Errorf("locks: unlock %q: %w: %w", l.e.key, ErrUnknown, context.Cause(ctx))
	}
}

// release takes the lock out of its user's hands, once.
func (l *Lock) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.e.s.Err() // exact, also before Done is closed
	} else {
		return fmt.Errorf("locks: unlock %q: %w", l.e.key, l.err)
	}
	if l.err != nil {
		close(l.done)
		return fmt.Errorf("locks: unlock %q: %w", l.e.key, l.err)
	}
	l.err = ErrNotHeld
	close(l.done)
	return nil
}

func (l *Lock) outcome(end *agent.Ended) error {
	if end.Why == "" {
		return nil
	}
	return fmt.Errorf("locks: unlock %q: %w", l.e.key, lostFor(end.Why))
}

func lostFor(why agent.Reason) error {
	if why == agent.Forced {
		return fmt.Errorf("%w: it was released by force", ErrLost)
	}
	return fmt.Errorf("%w: somebody else took it away", ErrLost)
}

// lose: somebody took it away, for a reason.
func (l *Lock) lose(why agent.Reason) { l.lost(lostFor(why)) }

// lost ends the lock, unless it is over.
func (l *Lock) lost(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.done)
	}
}
