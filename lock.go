// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
)

// Lock has Commit lock keys for the whole transaction: for what no single participant owns, so that none could lock it as a
// key of its own. Two transactions of whatever clients that lock a common key follow one another. At most 64 keys, each 1 to
// 512 of [A-Za-z0-9_=/.-] as package locks has them; what is named twice is locked once. It does no I/O.
//
// Commit takes leases of package locks (all or none, in an order that all clients have, so that none waits for another in a
// circle), waits for them as long as its context lives, and submits their fencing tokens with the transaction. Once the
// outcome is known it gives them back, in the background; while the outcome is unknown it keeps them until it is, or cannot
// be undecided any more. A client that dies leaves them to lapse, after Config.Locks.TTL.
//
// What that excludes: from before the submission until the client has learnt the outcome, no other transaction that locks
// the key is submitted. Participants are asked under the keys, too: one that has a branch of this transaction lets no later
// one begin before it has applied the outcome, however late it does. A client that is paused for longer than its lease is
// overtaken; its transaction may then reach a participant after that of the next holder, with a lesser token. So whatever
// must not be changed by it has to hold the tokens against the greatest that it has seen (package locks/fence; the stores of
// this project do): then a late transaction meets ErrConflict. See docs/isolation.md.
//
// A lock that is lost before the transaction was submitted ends Commit with ErrConflict, a *LockLostError.
func (tx *Tx) Lock(keys ...string) {
	if !tx.open("locks") {
		return
	}
	for _, key := range keys {
		if slices.Contains(tx.locks, key) {
			continue
		}
		if err := locks.CheckKey(key); err != nil {
			tx.fault(fmt.Sprintf("locks[%d].key", len(tx.locks)), err.Error())
		}
		tx.locks = append(tx.locks, key)
	}
	if len(tx.locks) > messages.MaxLocks {
		tx.fault("locks", fmt.Sprintf("more than %d locks", messages.MaxLocks))
	}
}

// LockLostError says that a lock of the transaction was lost before it was submitted: it was paused for longer than the
// lease lasts, or an operator released the lock by force. Nothing happened. It is ErrConflict, and whatever Err is
// (locks.ErrLost).
type LockLostError struct {
	Tx  ID
	Err error
}

// Error names the transaction and the reason.
func (e *LockLostError) Error() string {
	return fmt.Sprintf("%v: %s: nothing was submitted: %v", ErrConflict, e.Tx, e.Err)
}

// Unwrap gives ErrConflict and the cause.
func (e *LockLostError) Unwrap() []error { return []error{ErrConflict, e.Err} }

// commitLocked is Commit for a transaction that locks keys.
func (tx *Tx) commitLocked(ctx context.Context, at *chain) error {
	if err := tx.hold(ctx); err != nil {
		return tx.unsubmitted(ctx, at, fmt.Errorf("assent: nothing was submitted: %w", err))
	}
	tx.sub.Locks = tokens(tx.held.locks)
	err := tx.attempt(ctx, at)
	tx.letGo(errors.Is(err, ErrUnknown)) //nolint:contextcheck // what it begins outlives the call
	return err
}

// holding is what a transaction has locked. While its outcome is unknown a goroutine keeps it, and gives it back, unless a
// Commit takes it over again.
type holding struct {
	locks locks.Locks
	// turn has room for who is first: the goroutine or the Commit. cancel ends the goroutine's waiting.
	turn   chan struct{}
	cancel context.CancelFunc
}

// hold takes the locks, or takes over those that an earlier Commit has left held.
func (tx *Tx) hold(ctx context.Context) error {
	if h := tx.held; h != nil {
		tx.held = nil
		select {
		case h.turn <- struct{}{}:
			h.cancel()
			if h.locks.Err() == nil {
				tx.held = &holding{locks: h.locks}
				return nil
			}
			tx.client.leases.giveBackLater(h.locks) //nolint:contextcheck // some of them may be held still; it outlives the call
		default: // they were given back
		}
	}
	held, err := tx.client.leases.take(ctx, tx.locks)
	if err != nil {
		return err
	}
	tx.held = &holding{locks: held}
	return nil
}

// letGo gives the locks back: now, or, when the outcome is unknown, once it is known.
func (tx *Tx) letGo(unknown bool) {
	h, c := tx.held, tx.client
	if !unknown {
		tx.held = nil
		c.leases.giveBackLater(h.locks)
		return
	}
	waiting, cancel := context.WithCancel(c.leases.life)
	h.turn, h.cancel = make(chan struct{}, 1), cancel
	id, timeout := tx.sub.Tx, tx.sub.Timeout()
	c.leases.later(func() {
		defer cancel()
		c.untilOver(waiting, id, timeout)
		select {
		case h.turn <- struct{}{}:
			c.leases.giveBack(h.locks) //nolint:contextcheck // also when the client ends
		default: // a Commit has them
		}
	})
}

// untilOver waits until the outcome of a transaction is known, or it cannot be undecided any more.
func (c *Client) untilOver(ctx context.Context, id ID, timeout time.Duration) {
	over := id.Time().Add(submittable + timeout)
	for pause := hurry; time.Now().Before(over); pause = min(2*pause, restMax) {
		outcome, err := c.Wait(ctx, id)
		if err == nil && outcome != Undecided {
			return
		}
		if c.rest(ctx, pause) != nil {
			return
		}
	}
}
