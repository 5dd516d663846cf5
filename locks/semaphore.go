// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"fmt"
)

// Semaphore lets a number of holders in at once. Its tokens grow, but holders that came in together may have equal ones,
// and earlier holders are still legal: they do not fence it.
type Semaphore struct {
	s       *Session
	name    string
	permits int
}

// maxPermits bounds the holders of a semaphore.
const maxPermits = 1000

// Semaphore gives a semaphore by name, with 1 to 1000 permits. Everybody must name the same number: while it is in use with
// another one, taking it is an ErrConflict. Nothing is sent yet.
func (s *Session) Semaphore(name string, permits int) (*Semaphore, error) {
	if err := CheckKey(name); err != nil {
		return nil, err
	}
	if permits < 1 || permits > maxPermits {
		return nil, fmt.Errorf("locks: %w: %d permits: want 1 to %d", ErrInvalid, permits, maxPermits)
	}
	return &Semaphore{s, name, permits}, nil
}

// Acquire takes one permit, and waits for it as Session.Lock does. Give it back with Lock.Unlock.
func (m *Semaphore) Acquire(ctx context.Context, opts ...Option) (*Lock, error) {
	return m.s.acquire(ctx, wish{kind: KindSemaphore, key: m.name, permits: m.permits}, opts)
}

// TryAcquire takes a permit if one can be had at once. Otherwise the error is a *HeldError, an ErrHeld, also when a holder is dead: see
// TryLock.
func (m *Semaphore) TryAcquire(ctx context.Context, opts ...Option) (*Lock, error) {
	return m.Acquire(ctx, append(opts, Wait(0))...)
}
