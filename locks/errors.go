// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"errors"
	"fmt"
	"strings"
)

// What a caller branches on, with errors.Is.
var (
	// ErrHeld: someone else holds the lock, and the caller did not want to wait (TryLock) or not that long (Wait). The
	// error is a *HeldError that says who. Nothing is held or queued.
	ErrHeld = errors.New("the lock is held")
	// ErrLost: the session is lost, or may be: its renewals were not acknowledged for its TTL, or someone ended it, or
	// someone released this lock by force. Another may hold the lock. Open a new session.
	ErrLost = errors.New("the lock is lost")
	// ErrNotHeld: the lock was given back before.
	ErrNotHeld = errors.New("the lock is not held")
	// ErrUnknown: the write that gives the lock back was never acknowledged, and what came of it could not be settled before the
	// context ended. The session goes on to settle it; the lock is free at the latest when the session ends.
	ErrUnknown = errors.New("outcome unknown")
	// ErrClosed: the session was closed by its owner.
	ErrClosed = errors.New("the session is closed")
	// ErrConflict: the key is in use in a way that excludes this one, such as a semaphore with another number of permits.
	ErrConflict = errors.New("conflict")
	// ErrInvalid: an argument is out of its bounds; the message names it.
	ErrInvalid = errors.New("invalid")
	// ErrSettings: a stream of the bucket has settings with which locks are not safe. The message names each and what to do.
	ErrSettings = errors.New("unsafe settings")
	// ErrNoBucket: there is no such bucket.
	ErrNoBucket = errors.New("no such bucket")
	// ErrRecord: a key's record cannot be read: somebody else wrote it, or a newer version of this package. ForceRelease
	// makes the key free.
	ErrRecord = errors.New("a record that cannot be read")
)

// HeldError says who is in the way. It is an ErrHeld.
type HeldError struct {
	// Kind and Key are what was wanted.
	Kind Kind
	Key  string
	// Holders are those who hold it, oldest grant first.
	Holders []Holder
	// Waiters is how many wait for it.
	Waiters int
}

// Error implements error.
func (e *HeldError) Error() string {
	owners := make([]string, len(e.Holders))
	for i := range e.Holders {
		owners[i] = e.Holders[i].Owner
	}
	return fmt.Sprintf("locks: the %s %q is held by %s, %d waiting", e.Kind, e.Key, strings.Join(owners, ", "), e.Waiters)
}

// Is makes it an ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }
