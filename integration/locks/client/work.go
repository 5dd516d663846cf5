// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/integration/locks/history"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
)

// workload is what one process does.
type workload struct {
	*options
	nc       *nats.Conn
	history  *history.Writer
	resource *fence.KV

	mu      sync.Mutex // held while a session is opened
	session *locks.Session
}

// worker is one goroutine of it, with its own dice.
type worker struct {
	*workload
	rand *rand.Rand
}

func (w *workload) run(ctx context.Context) {
	var workers sync.WaitGroup
	for n := range w.workers {
		one := &worker{w, rand.New(rand.NewPCG(w.seed, uint64(n)))}
		workers.Go(func() {
			for ctx.Err() == nil {
				one.act(ctx)
			}
		})
	}
	last := &worker{w, rand.New(rand.NewPCG(w.seed, uint64(w.workers)))}
	workers.Go(func() {
		for ctx.Err() == nil {
			last.linger(ctx)
		}
	})
	workers.Wait()
}

// longKey is held for longer than the TTL, again and again, so that somebody holds something whenever a fault comes.
const longKey = "long"

func (w *worker) linger(ctx context.Context) {
	session := w.live(ctx)
	if session == nil {
		return
	}
	wishes := []wish{{Want: locks.Want{Key: longKey}}}
	for _, lock := range w.ask(ctx, session, history.Lock, wishes, nil) {
		w.holdFor(ctx, lock, wishes[0].op, 2*w.cfg.TTL, false)
	}
}

// live is the session; a new one when it is lost. It is nil when there is none before the end.
func (w *workload) live(ctx context.Context) *locks.Session {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.session.Err() == nil {
		return w.session
	}
	session, err := w.open(ctx, w.nc)
	if err != nil {
		return nil
	}
	w.session = session
	fmt.Println("session", session.ID())
	return session
}

// wish is one key that is asked for.
type wish struct {
	locks.Want
	op uint64
}

// act asks for something and gives back what it got.
func (w *worker) act(ctx context.Context) {
	session := w.live(ctx)
	if session == nil {
		return
	}
	dice := w.rand.IntN(100)
	wishes := w.wishes(dice >= 85)
	// What was begun is brought to its end when the process is to stop: only the wait for a lock is given up.
	limit, opts := 20*w.cfg.TTL, []locks.Option(nil)
	kind := history.Lock
	switch {
	case dice < 15 || dice >= 95:
		kind = history.Try
	case dice < 25:
		opts = append(opts, locks.Wait(w.span(50*time.Millisecond)))
	case dice < 35:
		limit = w.span(50 * time.Millisecond)
	}
	if ctx.Err() != nil {
		return
	}
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	held := w.ask(asking, session, kind, wishes, opts)
	for _, i := range w.rand.Perm(len(held)) {
		w.hold(ctx, held[i], wishes[i].op)
	}
}

// span is a random time, not longer.
func (w *worker) span(limit time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(limit))) + time.Millisecond
}

// wishes are one key, or several different ones.
func (w *worker) wishes(several bool) (wishes []wish) {
	n := 1
	if several {
		n = min(2+w.rand.IntN(2), w.keys)
	}
	for _, key := range w.rand.Perm(w.keys)[:n] {
		wishes = append(wishes, wish{Want: locks.Want{Key: fmt.Sprintf("key%d", key), Shared: w.rand.IntN(3) == 0}})
	}
	return wishes
}

// ask gives the locks that were got, in the order of the wishes, or none.
func (w *worker) ask(ctx context.Context, session *locks.Session, kind history.Kind, wishes []wish, opts []locks.Option) (held locks.Locks) {
	wants := make([]locks.Want, len(wishes))
	for i := range wishes {
		wants[i] = wishes[i].Want
		wishes[i].op = w.history.Call(history.Line{Kind: kind, Key: wants[i].Key, Shared: wants[i].Shared})
	}
	var err error
	if len(wants) == 1 {
		held, err = w.askOne(ctx, session, kind, wants[0], opts)
	} else if kind == history.Try {
		held, err = session.TryLockAll(ctx, wants, opts...)
	} else {
		held, err = session.LockAll(ctx, wants, opts...)
	}
	now := history.Now()
	byKey := make(map[string]*locks.Lock)
	for _, lock := range held {
		byKey[lock.Key()] = lock
	}
	ordered := make(locks.Locks, 0, len(held))
	for _, wish := range wishes {
		lock := byKey[wish.Key]
		if err != nil {
			w.history.Return(now, wish.op, kind, asked(kind, len(wishes), err), "", err)
			continue
		}
		w.history.Return(now, wish.op, kind, history.Held, lock.Token().String(), nil)
		ordered = append(ordered, lock)
	}
	return ordered
}

func (w *worker) askOne(ctx context.Context, session *locks.Session, kind history.Kind, want locks.Want, opts []locks.Option) (locks.Locks, error) {
	if want.Shared {
		opts = append(opts, locks.Shared())
	}
	ask := session.Lock
	if kind == history.Try {
		ask = session.TryLock
	}
	lock, err := ask(ctx, want.Key, opts...)
	if err != nil {
		return nil, err
	}
	return locks.Locks{lock}, nil
}

// asked is what an error means for those who asked. Of several keys it does not say which was held.
func asked(kind history.Kind, keys int, err error) history.Result {
	switch {
	case errors.Is(err, locks.ErrHeld) && kind == history.Try && keys == 1:
		return history.Refused
	case errors.Is(err, locks.ErrLost):
		return history.Lost
	case errors.Is(err, locks.ErrHeld), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return history.NotHeld
	default:
		return history.Unknown
	}
}

// hold keeps a lock for a while, looks at it all the time, uses what it protects, and gives it back.
func (w *worker) hold(ctx context.Context, lock *locks.Lock, op uint64) {
	length := w.span(20 * time.Millisecond)
	if w.rand.IntN(60) == 0 {
		length = w.span(w.cfg.TTL)
	}
	w.holdFor(ctx, lock, op, length, true)
}

// holdFor holds it so long. Whoever writes meanwhile waits for the network, and does not look.
func (w *worker) holdFor(ctx context.Context, lock *locks.Lock, op uint64, length time.Duration, writes bool) {
	looks := time.NewTicker(2 * time.Millisecond)
	defer looks.Stop()
	for end := time.Now().Add(length); w.look(lock, op) && time.Now().Before(end); <-looks.C {
		if writes && w.rand.IntN(15) == 0 {
			w.write(ctx, lock, op)
		}
	}
	if w.rand.IntN(4) == 0 {
		w.write(ctx, lock, op) // whether it is still held or not: the resource has to know
	}
	w.look(lock, op)
	w.unlock(ctx, lock, op)
	if w.rand.IntN(20) == 0 {
		w.unlock(ctx, lock, op)
	}
}

// look notes that the lock is held, if it is. The clock is read first: what was not lost later was not lost then.
func (w *worker) look(lock *locks.Lock, op uint64) bool {
	now := history.Now()
	if lock.Err() != nil {
		return false
	}
	w.history.Use(now, op)
	return true
}

func (w *worker) unlock(ctx context.Context, lock *locks.Lock, of uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*w.cfg.TTL)
	defer cancel()
	op := w.history.Call(history.Line{Kind: history.Unlock, Of: of})
	err := lock.Unlock(ctx)
	now := history.Now()
	result := history.Unknown
	switch {
	case err == nil:
		result = history.Released
	case errors.Is(err, locks.ErrLost):
		result = history.Lost
	case errors.Is(err, locks.ErrNotHeld):
		result = history.NotHeld
	}
	w.history.Return(now, op, history.Unlock, result, "", err)
}

func (w *worker) write(ctx context.Context, lock *locks.Lock, of uint64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*w.cfg.TTL)
	defer cancel()
	op := w.history.Call(history.Line{Kind: history.Write, Of: of})
	_, err := w.resource.Put(ctx, lock.Key(), []byte(w.cfg.Owner), lock.Token())
	now := history.Now()
	result := history.Unknown
	switch {
	case err == nil:
		result = history.Accepted
	case errors.Is(err, fence.ErrStale):
		result = history.Refused
	}
	w.history.Return(now, op, history.Write, result, "", err)
}
