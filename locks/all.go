// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Want is one of several keys that are taken together.
type Want struct {
	Key string
	// Shared takes it as the option Shared does.
	Shared bool
}

// Locks are several locks that were taken together, sorted by key.
type Locks []*Lock

// Unlock gives all of them back. The error joins theirs.
func (l Locks) Unlock(ctx context.Context) error {
	errs := make([]error, len(l))
	var unlocking sync.WaitGroup
	var together gathering
	for i := range l {
		await, err := l[i].giveUp(ctx, &together)
		if err != nil {
			errs[i] = err
			continue
		}
		unlocking.Go(func() { errs[i] = await() })
	}
	if len(l) > 0 {
		together.send(l[0].e.s)
	}
	unlocking.Wait()
	return errors.Join(errs...)
}

// Err is nil while all of them are held.
func (l Locks) Err() error {
	for i := range l {
		if err := l[i].Err(); err != nil {
			return err
		}
	}
	return nil
}

// maxWants bounds the keys of one call.
const maxWants = 256

// LockAll takes several keys, all or none, and waits for them as Lock does. Calls that want the same keys in different
// orders do not block each other: who waits for a key holds only lesser ones. A key that is named twice is taken once; it is
// an ErrInvalid if it is wanted shared and not shared. At most 256 keys. The options are as for Lock, except that
// Shared means nothing here.
//
// It first tries all keys at once, which takes as long as one lock; only from the first key on that is held by somebody
// else they are taken in order.
func (s *Session) LockAll(ctx context.Context, wants []Want, opts ...Option) (Locks, error) {
	wants, err := sorted(wants)
	if err != nil {
		return nil, err
	}
	if _, err := s.wishFor(Want{}, opts); err != nil {
		return nil, err
	}
	got, busy, err := s.tryAll(ctx, wants, opts)
	if err != nil {
		return nil, err
	}
	for i := busy; i < len(wants); i++ {
		w, _ := s.wishFor(wants[i], opts)
		l, err := s.acquire(ctx, w, nil)
		if err != nil {
			return nil, errors.Join(err, got.giveBack(ctx))
		}
		got = append(got, l)
	}
	return got, nil
}

// TryLockAll takes several keys if all can be had at once. Otherwise the error is a *HeldError for the first that cannot.
func (s *Session) TryLockAll(ctx context.Context, wants []Want, opts ...Option) (Locks, error) {
	return s.LockAll(ctx, wants, append(opts, Wait(0))...)
}

// wishFor is the wish for one of several keys.
func (s *Session) wishFor(want Want, opts []Option) (wish, error) {
	w := wish{kind: KindLock}
	for _, o := range opts {
		o(&w)
	}
	if w.shared {
		return w, fmt.Errorf("locks: %w: the option Shared with several keys: say so for each Want", ErrInvalid)
	}
	w.key, w.shared = want.Key, want.Shared
	return w, nil
}

func sorted(wants []Want) ([]Want, error) {
	if len(wants) == 0 || len(wants) > maxWants {
		return nil, fmt.Errorf("locks: %w: %d keys in one call: want 1 to %d", ErrInvalid, len(wants), maxWants)
	}
	wants = slices.Clone(wants)
	slices.SortFunc(wants, func(a, b Want) int { return cmp.Compare(a.Key, b.Key) })
	wants = slices.Compact(wants) // no key is wanted twice in one mode
	for i := range wants {
		if err := CheckKey(wants[i].Key); err != nil {
			return nil, err
		}
		if i > 0 && wants[i].Key == wants[i-1].Key {
			return nil, fmt.Errorf("locks: %w: the key %q is wanted shared and not shared in one call", ErrInvalid, wants[i].Key)
		}
	}
	return wants, nil
}

// tryAll tries all keys at once, and gives those back that come after the first one that is held, whose index it tells: who
// waits must hold only lesser keys.
func (s *Session) tryAll(ctx context.Context, wants []Want, opts []Option) (got Locks, busy int, err error) {
	held := make(Locks, len(wants))
	errs := make([]error, len(wants))
	var trying sync.WaitGroup
	var together gathering
	for i := range wants {
		w, _ := s.wishFor(wants[i], opts)
		w.try = true
		await, err := s.begin(ctx, &w, &together)
		if err != nil {
			errs[i] = err
			continue
		}
		trying.Go(func() { held[i], errs[i] = await() })
	}
	together.send(s)
	trying.Wait()
	busy = len(wants)
	w, _ := s.wishFor(wants[0], opts)
	for i := range errs {
		if errs[i] != nil && (w.try || !errors.Is(errs[i], ErrHeld)) {
			return nil, 0, errors.Join(errs[i], held.giveBack(ctx))
		}
		if errs[i] != nil {
			busy = min(busy, i)
		}
	}
	return held[:busy], busy, held[busy:].giveBack(ctx)
}

// giveBack gives back what there is, also when ctx has ended.
func (l Locks) giveBack(ctx context.Context) error {
	l = slices.DeleteFunc(slices.Clone(l), func(l *Lock) bool { return l == nil })
	if len(l) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l[0].e.s.cfg.TTL)
	defer cancel()
	return l.Unlock(ctx)
}
