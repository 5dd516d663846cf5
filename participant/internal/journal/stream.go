// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrSettings means that the journal's stream exists with settings under which it is not safe.
var ErrSettings = errors.New("unsafe settings")

// streamName and subjectName are where a journal is.
func streamName(prefix, name string) string {
	return strings.ReplaceAll(prefix, ".", "-") + "-journal-" + name
}

func subjectName(prefix, name string) string { return prefix + ".journal." + name }

// openStream makes the journal's stream, or checks the one that is there.
func openStream(ctx context.Context, js jetstream.JetStream, cfg *Config) (jetstream.Stream, error) {
	want := settings(cfg)
	var stream jetstream.Stream
	err := persist(ctx, func(ctx context.Context) (err error) {
		stream, err = js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance opens it at the same moment
				stream, err = js.Stream(ctx, want.Name)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", want.Name, err)
	}
	return stream, checkSettings(stream.CachedInfo().Config, want)
}

func settings(cfg *Config) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamName(cfg.Prefix, cfg.Name),
		Description: "Assent: what participant " + cfg.Name + " holds prepared",
		Subjects:    []string{subjectName(cfg.Prefix, cfg.Name)},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
		Duplicates:  time.Second, // messages have no ids: what was written is found by reading
		AllowDirect: false,
	}
}

// checkSettings compares the settings that the journal rests on.
func checkSettings(have, want jetstream.StreamConfig) error {
	var faults []string
	fault := func(differs bool, setting string, have, want any, why string) {
		if differs {
			faults = append(faults, fmt.Sprintf("%s is %v, want %v (%s)", setting, have, want, why))
		}
	}
	fault(have.Storage != want.Storage, "storage", have.Storage, want.Storage, "what is prepared must survive a restart")
	fault(have.Retention != want.Retention, "retention", have.Retention, want.Retention, "messages must stay")
	fault(have.Discard != want.Discard, "discard", have.Discard, want.Discard, "a full stream must not drop what is prepared")
	fault(have.MaxAge != 0, "max age", have.MaxAge, 0, "what is prepared would vanish with time")
	fault(have.MaxMsgs > 0, "max messages", have.MaxMsgs, "unlimited", "the stream would be full while it is in use")
	fault(have.MaxMsgsPerSubject > 0, "max messages per subject", have.MaxMsgsPerSubject, "unlimited", "what is prepared would be dropped")
	fault(have.MaxMsgSize > 0, "max message size", have.MaxMsgSize, "unlimited", "a branch that is prepared could not be written again")
	fault(len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0], "subjects", have.Subjects, want.Subjects, "nothing else may write there")
	fault(have.Mirror != nil || len(have.Sources) > 0, "mirror or sources", "set", "none", "there is one writer")
	fault(have.SubjectTransform != nil, "subject transform", "set", "none", "messages would not be found")
	fault(have.AllowRollup, "allow rollup", true, false, "one message could drop all others")
	fault(have.DenyPurge, "deny purge", true, false, "what is over could not be trimmed")
	fault(have.NoAck, "no ack", true, false, "what is not acknowledged is not prepared")
	fault(have.Sealed, "sealed", true, false, "nothing could be written")
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("%w: stream %s: %s: change it back with `nats stream edit %s`", ErrSettings, have.Name, strings.Join(faults, "; "), have.Name)
}

// For how long a server is asked again that does not answer: a replicated stream has no leader for a while after it was made,
// and after its leader died; nobody at all answers where there is no JetStream.
const (
	attemptTime  = 2 * time.Second
	attemptPause = 50 * time.Millisecond
	silentTime   = 15 * time.Second
	nobodyTime   = 3 * time.Second
)

// persist does something until it succeeds or fails for good.
func persist(ctx context.Context, f func(context.Context) error) error {
	for begun := time.Now(); ; {
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		err := f(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || time.Since(begun) >= patience(err) || !pause(ctx, attemptPause) {
			return err
		}
	}
}

// patience is for how long to try again what failed so.
func patience(err error) time.Duration {
	var refusal *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return nobodyTime
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrDisconnected):
		return silentTime
	case errors.As(err, &refusal) && refusal.Code == 503: // not available just now
		return silentTime
	default:
		return 0
	}
}

// pause waits; false when ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
