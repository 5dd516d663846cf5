// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
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
	stream, err := streams.Open(ctx, js, want)
	if err != nil {
		return nil, err
	}
	if err := streams.Check(stream.CachedInfo().Config, want, "branches that are prepared"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSettings, err)
	}
	return stream, nil
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
