// SPDX-License-Identifier: Apache-2.0

package streams

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Open makes a stream, or takes the one of that name that is there, whatever its settings are: see Check. It is patient, as Persist is.
func Open(ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig) (jetstream.Stream, error) {
	return open(ctx, want.Name, func(ctx context.Context) (jetstream.Stream, error) {
		stream, err := js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else opens it at the same moment
				stream, err = js.Stream(ctx, want.Name)
			}
		}
		return stream, err
	})
}

// Find takes a stream that is there. The error is a jetstream.ErrStreamNotFound if there is none.
func Find(ctx context.Context, js jetstream.JetStream, name string) (jetstream.Stream, error) {
	return open(ctx, name, func(ctx context.Context) (jetstream.Stream, error) { return js.Stream(ctx, name) })
}

func open(ctx context.Context, name string, attempt func(context.Context) (jetstream.Stream, error)) (stream jetstream.Stream, err error) {
	err = Persist(ctx, func(ctx context.Context) (err error) {
		stream, err = attempt(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	return stream, nil
}

// For how long a server is asked again that does not answer: a replicated stream has no leader for a while after it was made,
// and after its leader died; nobody at all answers where there is no JetStream.
const (
	AttemptTime  = 2 * time.Second // at first: see Persist
	AttemptPause = 100 * time.Millisecond
	silentTime   = 15 * time.Second
	nobodyTime   = 3 * time.Second
)

// Persist does something until it succeeds, fails for good, or ctx ends, and gives the last error. Those of silence are the caller's own
// errors that mean that the server did not answer.
//
// An attempt after one that was not answered in time has twice as long as that, for a server that is slow. After one that was, and failed, it has
// no longer: its answer may be lost, as all are of a server that dies, and is not to be waited for until the patience is over.
func Persist(ctx context.Context, attempt func(context.Context) error, silence ...error) error {
	begun := time.Now()
	for limit := AttemptTime; ; limit = min(limit, max(AttemptTime, silentTime-time.Since(begun))) {
		limited, cancel := context.WithTimeout(ctx, limit)
		err := attempt(limited)
		if limited.Err() != nil {
			limit *= 2
		}
		cancel()
		if err == nil || ctx.Err() != nil || time.Since(begun) >= Patience(err, silence...) || !Pause(ctx, AttemptPause) {
			return err
		}
	}
}

// Patience is for how long to try again what failed so; 0 when it failed for good. Silence is as in Persist.
func Patience(err error, silence ...error) time.Duration {
	var refusal *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return nobodyTime
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrDisconnected),
		slices.ContainsFunc(silence, func(target error) bool { return errors.Is(err, target) }):
		return silentTime
	case errors.As(err, &refusal) && refusal.Code == 503: // not available just now
		return silentTime
	default:
		return 0
	}
}

// Pause waits; false when ctx ended meanwhile.
func Pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
