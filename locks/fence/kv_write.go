// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// write reads the key's record and overwrites it if the token is not older, by compare-and-swap on what was read.
//
// Safe whatever the read gives: tokens of a key never decrease along its revisions, so a token that is older than that of
// any past record is older than the present one's, and a record that is no longer the last fails the compare-and-swap.
func (kv *KV) write(ctx context.Context, key string, token locks.Token, operation string, value []byte) (uint64, error) {
	if err := checkKey(key); err != nil {
		return 0, err
	}
	if err := checkToken(key, token); err != nil {
		return 0, err
	}
	for attempt := 0; ; attempt++ {
		last, err := kv.read(ctx, key)
		if err != nil {
			return 0, fmt.Errorf("fence: %q: %w", key, err)
		}
		if token.Compare(last.token) < 0 {
			return 0, &StaleError{key, token, last.token}
		}
		id := rand.Text()
		msg := &nats.Msg{Subject: kv.subject(key), Header: last.header(id, operation, token), Data: value}
		revision, err := kv.publish(ctx, msg, last.revision)
		if err != nil && !refused(err) {
			revision, err = kv.settle(ctx, key, id, msg, last.revision, err)
		}
		switch {
		case err == nil:
			return revision, nil
		case !errors.Is(err, errConflict):
			return 0, fmt.Errorf("fence: %q: %w", key, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return 0, fmt.Errorf("fence: %q: the key is being written by others: %w", key, err)
		}
	}
}

// settle finds out what became of a write that was not acknowledged: it reads until the record tells, and sends the same message again, on
// the same condition, while it may still be stored: at most one of them can be.
func (kv *KV) settle(ctx context.Context, key, id string, msg *nats.Msg, base uint64, cause error) (uint64, error) {
	for attempt := 0; ; attempt++ {
		last, err := kv.read(ctx, key)
		if err == nil {
			switch fate, revision := last.fateOf(id, base); fate {
			case fateStored:
				return revision, nil
			case fateRefused:
				return 0, errConflict
			case fateTooLate:
				return 0, fmt.Errorf("%w: what was written after it no longer tells: %w", ErrUnknown, cause)
			case fateOpen:
				var revision uint64
				if revision, err = kv.publish(ctx, msg, base); err == nil {
					return revision, nil
				}
			}
		}
		if kv.nc.IsClosed() || refused(err) && !errors.Is(err, errConflict) {
			return 0, fmt.Errorf("%w: %w: %w", ErrUnknown, cause, err)
		}
		if err := pause(ctx, attempt); err != nil {
			return 0, fmt.Errorf("%w: %w: %w", ErrUnknown, cause, err)
		}
	}
}

// errConflict: another write came first, or is on its way.
var errConflict = errors.New("conflict")

// refused tells whether an error proves that its request took no effect, and never will: the server said so, or it was too large to be
// sent. That the connection is closed proves nothing: it may have been closed after the request had gone out.
func refused(err error) bool {
	var answer jetstream.JetStreamError
	return errors.As(err, &answer) && answer.APIError() != nil || errors.Is(err, errConflict) || errors.Is(err, nats.ErrMaxPayload)
}

// pause waits a random time, longer on average the more attempts there were.
func pause(ctx context.Context, attempt int) error {
	most := time.Millisecond << min(attempt, 7)
	timer := time.NewTimer(mathrand.N(most))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
