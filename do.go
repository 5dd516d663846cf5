// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The pause before a transaction that met another one is tried again is drawn from 0 to a bound (full jitter: Brooker,
// "Exponential Backoff And Jitter", 2015). The first is about what a transaction takes that is in the way.
const (
	retryBase = 2 * time.Millisecond
	retryMax  = time.Second
)

// Do runs a transaction until it meets no other one: it calls f with a new Tx, commits that, and if the error, of f or of
// Commit, is ErrConflict, does it all again, after a pause that is drawn at random and grows (up to 2 ms, doubling, at most
// 1 s). Every attempt has a new id, and all have the age of the first, so that participants let it go before those that
// began later. Any other error is returned as it is.
//
// f enlists operations. What it decides by (balances, revisions) it must read anew at each call, since it is called again
// because that has changed. It must not Commit, nor keep the Tx. When f fails, nothing is submitted. After a Commit that
// succeeded, and after an ErrUnknown, f is never called again: two attempts cannot both happen.
//
// When ctx ends between two attempts, the error is that of the last one, and the context's. Without a deadline of its own,
// ctx ends Config.Patience after the transaction's timeout. WithID is an ErrInvalid: who runs again after a crash cannot know
// under which id the last attempt was; note the id in f, and submit by Commit, if that matters.
func (c *Client) Do(ctx context.Context, f func(tx *Tx) error, options ...TxOption) error {
	return c.do(ctx, f, (*Tx).Commit, options)
}

// do is Do; a test stands in for Commit.
func (c *Client) do(ctx context.Context, f func(*Tx) error, commit func(*Tx, context.Context) error, options []TxOption) error {
	tx := c.Begin(options...)
	if tx.given {
		return &InvalidError{Tx: tx.sub.Tx, Field: "tx", Message: "WithID: each attempt of Do has an id of its own; use Commit"}
	}
	ctx, cancel := within(ctx, tx.sub.Timeout()+c.cfg.Patience)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := f(tx)
		if err != nil && tx.given { // f has committed it: nobody knows what became of that
			return err
		}
		if err == nil {
			err = commit(tx, ctx)
		}
		if !mayTryAgain(err) {
			return err
		}
		if cause := c.backOff(ctx, attempt); cause != nil {
			return fmt.Errorf("%w; given up after %d attempts: %w", err, attempt, cause)
		}
		tx = c.Begin(append(options[:len(options):len(options)], RetryOf(tx))...)
	}
}

// mayTryAgain tells whether a transaction is over, for good and without an effect, and may succeed when it is tried again.
func mayTryAgain(err error) bool {
	return errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnknown)
}

// backOff waits before the next attempt; the error is why there is to be none.
func (c *Client) backOff(ctx context.Context, attempt int) error {
	bound := min(retryBase<<min(attempt-1, 20), retryMax)
	timer := time.NewTimer(rand.N(bound))
	defer timer.Stop()
	select {
	case <-timer.C:
		if ctx.Err() != nil { // both were ready
			return context.Cause(ctx)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.closing:
		return ErrClosed
	}
}

// RetryOf gives the transaction the age of an earlier one, or of the one whose retry that was: for those who try again by
// themselves what ended with ErrConflict, in place of Do. The older a transaction is, the sooner it has its turn at a
// key. It is a new transaction, so never use it after ErrUnknown: commit the same Tx again. A nil tx means nothing.
//
// The age is the time of the first one's id. A clock that is ahead of the coordinator's makes it younger, as young as
// any new one.
func RetryOf(tx *Tx) TxOption {
	return func(next *Tx) {
		if tx != nil {
			next.sub.Since = tx.since()
		}
	}
}

// since is the transaction's age, in Unix microseconds, for whoever tries it again.
func (tx *Tx) since() int64 {
	if tx.sub.Since != 0 {
		return tx.sub.Since
	}
	return tx.sub.Tx.UnixMilli() * int64(time.Millisecond/time.Microsecond)
}
