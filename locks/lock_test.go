// SPDX-License-Identifier: Apache-2.0

package locks_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent/locks"
)

// waiter is a call of Lock in the background that is known to wait.
type waiter struct {
	t      *testing.T
	locked chan *locks.Lock
	failed chan error
	places chan locks.Position
	cancel context.CancelFunc
}

// queue begins a call of Lock, and comes back when it has a place in the queue.
func queue(t *testing.T, s *locks.Session, key string, opts ...locks.Option) *waiter {
	t.Helper()
	w := &waiter{t, make(chan *locks.Lock, 1), make(chan error, 1), make(chan locks.Position, 16), nil}
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(t.Context())
	opts = append(opts, locks.OnQueue(func(p locks.Position) { w.places <- p }))
	go func() {
		l, err := s.Lock(ctx, key, opts...)
		if err != nil {
			w.failed <- err
			return
		}
		w.locked <- l
	}()
	w.place()
	return w
}

const patience = 20 * time.Second // a bound for what must happen, not for how soon

func (w *waiter) place() locks.Position {
	w.t.Helper()
	select {
	case p := <-w.places:
		return p
	case err := <-w.failed:
		w.t.Fatalf("it does not wait: %v", err)
	case <-w.locked:
		w.t.Fatal("it does not have to wait")
	case <-time.After(patience):
		w.t.Fatal("no place in the queue")
	}
	return locks.Position{}
}

func (w *waiter) lock() *locks.Lock {
	w.t.Helper()
	select {
	case l := <-w.locked:
		return l
	case err := <-w.failed:
		w.t.Fatal(err)
	case <-time.After(patience):
		w.t.Fatal("it still waits")
	}
	return nil
}

func (w *waiter) waits() {
	w.t.Helper()
	select {
	case l := <-w.locked:
		w.t.Fatalf("it holds already, with token %s", l.Token())
	case err := <-w.failed:
		w.t.Fatal(err)
	default:
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	c := start(t)
	held := mustLock(t, c.open(locks.Config{}), "k")
	var waiters []*waiter
	for range 5 {
		waiters = append(waiters, queue(t, c.open(locks.Config{}), "k"))
	}
	for i, w := range waiters {
		for _, later := range waiters[i:] {
			later.waits()
		}
		mustUnlock(t, held)
		next := w.lock()
		if next.Token().Compare(held.Token()) <= 0 {
			t.Errorf("token %s after %s", next.Token(), held.Token())
		}
		held = next
	}
	mustUnlock(t, held)
}

func TestWaitersOfOneSessionAreServedInOrder(t *testing.T) {
	c := start(t)
	s := c.open(locks.Config{})
	held := mustLock(t, s, "k")
	a, b := queue(t, s, "k"), queue(t, s, "k")
	mustUnlock(t, held)
	held = a.lock()
	b.waits()
	mustUnlock(t, held)
	mustUnlock(t, b.lock())
}

func TestReadersShareAndWritersDoNotStarve(t *testing.T) {
	c := start(t)
	a, b, writer, late := c.open(locks.Config{}), c.open(locks.Config{}), c.open(locks.Config{}), c.open(locks.Config{})
	first, second := mustLock(t, a, "k", locks.Shared()), mustLock(t, b, "k", locks.Shared())
	if !first.Shared() || !second.Shared() {
		t.Error("they do not say that they are shared")
	}
	w := queue(t, writer, "k")
	r := queue(t, late, "k", locks.Shared()) // behind the writer, though it could join the readers
	if _, err := a.TryLock(t.Context(), "k", locks.Shared()); !errors.Is(err, locks.ErrHeld) {
		t.Errorf("a reader overtakes a writer by trying: %v", err)
	}
	mustUnlock(t, first) // the keeper leaves: another one writes from now on
	w.waits()
	mustUnlock(t, second)
	exclusive := w.lock()
	r.waits()
	if exclusive.Token().Compare(second.Token()) <= 0 {
		t.Errorf("token %s after %s", exclusive.Token(), second.Token())
	}
	mustUnlock(t, exclusive)
	mustUnlock(t, r.lock())
}

func TestTryLockSaysWhoHolds(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{Owner: "the cashier"}), c.open(locks.Config{})
	l := mustLock(t, a, "till/1")
	for range 2 { // the second time it knows the record already
		_, err := b.TryLock(t.Context(), "till/1")
		var held *locks.HeldError
		if !errors.As(err, &held) || !errors.Is(err, locks.ErrHeld) {
			t.Fatalf("got %v", err)
		}
		if held.Key != "till/1" || len(held.Holders) != 1 || held.Holders[0].Owner != "the cashier" || held.Holders[0].Session != a.ID() ||
			held.Holders[0].Token != l.Token() || !strings.Contains(err.Error(), "the cashier") {
			t.Errorf("got %+v", held)
		}
	}
	mustUnlock(t, l)
	l, err := b.TryLock(t.Context(), "till/1")
	if err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, l)
}

func TestTheWaitIsLimited(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{}), c.open(locks.Config{})
	l := mustLock(t, a, "k")
	if _, err := b.Lock(t.Context(), "k", locks.Wait(30*time.Millisecond)); !errors.Is(err, locks.ErrHeld) {
		t.Fatalf("got %v", err)
	}
	mustUnlock(t, l)
	again, err := b.Lock(t.Context(), "k", locks.Wait(patience)) // nothing of the first call is left in the way
	if err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, again)
}

func TestWhoStopsWaitingIsPassedOver(t *testing.T) {
	c := start(t)
	a, b, d := c.open(locks.Config{}), c.open(locks.Config{}), c.open(locks.Config{})
	l := mustLock(t, a, "k")
	first, second := queue(t, b, "k"), queue(t, d, "k")
	first.cancel()
	if err := <-first.failed; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	mustUnlock(t, l)
	mustUnlock(t, second.lock())
}

func TestPositionsInTheQueue(t *testing.T) {
	c := start(t)
	l := mustLock(t, c.open(locks.Config{Owner: "first"}), "k")
	queue(t, c.open(locks.Config{}), "k").cancel()
	a := queue(t, c.open(locks.Config{}), "k")
	b := queue(t, c.open(locks.Config{}), "k")
	mustUnlock(t, l)
	held := a.lock()
	for {
		p := b.place()
		if p.Ahead == 0 && len(p.Holders) == 1 && p.Holders[0].Token == held.Token() {
			break
		}
	}
	mustUnlock(t, held)
	mustUnlock(t, b.lock())
}

func TestUnlockWhatIsNotHeld(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{}), c.open(locks.Config{})
	l := mustLock(t, a, "k")
	mustUnlock(t, l)
	next := mustLock(t, b, "k")
	for range 2 {
		if err := l.Unlock(t.Context()); !errors.Is(err, locks.ErrNotHeld) {
			t.Errorf("got %v", err)
		}
	}
	if err := l.Err(); !errors.Is(err, locks.ErrNotHeld) {
		t.Errorf("Err is %v", err)
	}
	if _, err := a.TryLock(t.Context(), "k"); !errors.Is(err, locks.ErrHeld) {
		t.Errorf("unlocking twice took the lock from its next holder: %v", err)
	}
	mustUnlock(t, next)
}

func TestDo(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{}), c.open(locks.Config{})
	boom := errors.New("boom")
	err := locks.Do(t.Context(), a, "k", func(ctx context.Context, token locks.Token) error {
		if token.IsZero() || ctx.Err() != nil {
			t.Errorf("token %s, context %v", token, ctx.Err())
		}
		if _, err := b.TryLock(ctx, "k"); !errors.Is(err, locks.ErrHeld) {
			t.Errorf("got %v", err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = a.Do(t.Context(), "k", func(context.Context, locks.Token) error { panic("boom") })
	}()
	l, err := b.TryLock(t.Context(), "k")
	if err != nil {
		t.Fatal("a panic keeps the lock: ", err)
	}
	mustUnlock(t, l)
}

func TestSeveralKeys(t *testing.T) {
	c := start(t)
	a, b := c.open(locks.Config{}), c.open(locks.Config{})
	all, err := a.LockAll(t.Context(), []locks.Want{{Key: "c"}, {Key: "a"}, {Key: "b", Shared: true}, {Key: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, l := range all {
		keys = append(keys, l.Key())
	}
	if !slices.Equal(keys, []string{"a", "b", "c"}) || !all[1].Shared() || all[0].Shared() || all.Err() != nil {
		t.Errorf("got %v, %v", keys, all.Err())
	}
	if _, err := b.TryLockAll(t.Context(), []locks.Want{{Key: "x"}, {Key: "c"}}); !errors.Is(err, locks.ErrHeld) {
		t.Errorf("got %v", err)
	}
	mustUnlock(t, mustLock(t, b, "x", locks.Wait(patience))) // none was kept
	if err := all.Unlock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if all.Err() == nil {
		t.Error("they were given back and say that they are held")
	}
}

// Calls that want the same keys in opposite orders would block each other for ever if each held what it got first.
func TestSeveralKeysWithoutDeadlock(t *testing.T) {
	c := start(t)
	const rounds = 30
	orders := [][]locks.Want{
		{{Key: "a"}, {Key: "b"}, {Key: "c"}}, {{Key: "c"}, {Key: "b"}, {Key: "a"}}, {{Key: "b"}, {Key: "a", Shared: true}}, {{Key: "c", Shared: true}, {Key: "a"}},
	}
	var exclusive atomic.Int32                   // of b and c together, which the first two orders hold alone
	done := make(chan error, len(orders)*rounds) // has an item for each round
	for i, order := range orders {
		s := c.open(locks.Config{})
		go func() {
			for range rounds {
				all, err := s.LockAll(t.Context(), order)
				if err != nil {
					done <- err
					return
				}
				if i < 2 {
					if n := exclusive.Add(1); n != 1 {
						t.Errorf("%d hold b and c", n)
					}
					exclusive.Add(-1)
				}
				err = all.Unlock(t.Context())
				done <- err
				if err != nil {
					return
				}
			}
		}()
	}
	for range cap(done) {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("they block each other")
		}
	}
}

func TestSemaphore(t *testing.T) {
	c := start(t)
	var held []*locks.Lock
	for range 2 {
		m, err := c.open(locks.Config{}).Semaphore("pool", 2)
		if err != nil {
			t.Fatal(err)
		}
		l, err := m.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, l)
	}
	s := c.open(locks.Config{})
	m, _ := s.Semaphore("pool", 2)
	if _, err := m.TryAcquire(t.Context()); !errors.Is(err, locks.ErrHeld) {
		t.Errorf("a third one got in: %v", err)
	}
	other, _ := s.Semaphore("pool", 3)
	if _, err := other.Acquire(t.Context()); !errors.Is(err, locks.ErrConflict) || !strings.Contains(err.Error(), "2 permits") {
		t.Errorf("another number of permits: %v", err)
	}
	got := make(chan *locks.Lock, 1)
	go func() {
		l, err := m.Acquire(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	mustUnlock(t, held[1])
	mustUnlock(t, <-got)
	mustUnlock(t, held[0])
	l, err := other.TryAcquire(t.Context()) // free: the number may change
	if err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, l)
}

func TestElection(t *testing.T) {
	c := start(t)
	elections := make([]*locks.Election, 2)
	for i := range elections {
		s := c.open(locks.Config{Owner: []string{"ann", "bob"}[i]})
		elections[i], _ = s.Election("boss")
	}
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	leaders := elections[1].Observe(watching)
	expect := func(owner string) {
		t.Helper()
		for {
			select {
			case leader := <-leaders:
				if leader.Owner == owner && leader.None == (owner == "") {
					return
				}
			case <-time.After(patience):
				t.Fatalf("nobody says that %q leads", owner)
			}
		}
	}
	expect("")
	ann, err := elections[0].Campaign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect("ann")
	next := make(chan *locks.Lock, 1)
	go func() {
		bob, err := elections[1].Campaign(t.Context())
		if err != nil {
			t.Error(err)
		}
		next <- bob
	}()
	mustUnlock(t, ann)
	bob := <-next
	expect("bob")
	mustUnlock(t, bob)
	expect("")
	stop()
	if _, open := <-leaders; open {
		if _, open = <-leaders; open {
			t.Error("the channel stays open")
		}
	}
}
