// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"
)

// RingConfig says how routing is measured. Dir is required.
type RingConfig struct {
	// Dir is where the server keeps its data; it should be empty.
	Dir string
	// Duration is how long lookups with each number of nodes, requests with one key, and batches are measured in all, each; at least
	// a millisecond a round. Default 5 s.
	Duration time.Duration
	// Rounds is in how many slices the Duration is cut, 1 to 1,000; default 5. Each round measures a slice of everything.
	Rounds int
	// Keys is how many keys the balance and the movement are found with, 1,000 to 10,000,000; default 1,000,000.
	Keys int
	// Followers is how many clients, each with a connection of its own, hear of a change, 1 to 1,000; default 50.
	Followers int
	// Changes is how many changes of a ring they hear of in a round, 1 to 1,000; default 10.
	Changes int
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
	// Progress, when not nil, hears several times a second what is being done, and what part of the whole is, 0 to 1.
	Progress func(step string, done float64)
}

// The bounds of a RingConfig.
const (
	minKeys, maxKeys = 1000, 10_000_000
	maxFollowers     = 1000
	maxChanges       = 1000
)

func (cfg RingConfig) withDefaults() (RingConfig, error) {
	if cfg.Duration == 0 {
		cfg.Duration = 5 * time.Second
	}
	for _, field := range []struct {
		value    *int
		standard int
	}{{&cfg.Rounds, 5}, {&cfg.Keys, 1_000_000}, {&cfg.Followers, 50}, {&cfg.Changes, 10}} {
		if *field.value == 0 {
			*field.value = field.standard
		}
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, float64) {}
	}
	return cfg, cfg.Check()
}

// Check gives an error that names the first field that is out of its bounds. A zero is the default, except that Dir is missing.
func (cfg *RingConfig) Check() error {
	rounds := max(cfg.Rounds, 1)
	switch {
	case cfg.Dir == "":
		return fmt.Errorf("dir: missing: name a directory for the server's data")
	case cfg.Rounds < 0 || cfg.Rounds > maxRounds:
		return fmt.Errorf("rounds: %d: want 1 to %d", cfg.Rounds, maxRounds)
	case cfg.Duration != 0 && cfg.Duration < time.Duration(rounds)*time.Millisecond:
		return fmt.Errorf("duration: %v: want at least a millisecond for each of %s", cfg.Duration, count(rounds, "round"))
	case cfg.Keys != 0 && (cfg.Keys < minKeys || cfg.Keys > maxKeys):
		return fmt.Errorf("keys: %d: want %d to %d", cfg.Keys, minKeys, maxKeys)
	case cfg.Followers < 0 || cfg.Followers > maxFollowers:
		return fmt.Errorf("followers: %d: want 1 to %d", cfg.Followers, maxFollowers)
	case cfg.Changes < 0 || cfg.Changes > maxChanges:
		return fmt.Errorf("changes: %d: want 1 to %d", cfg.Changes, maxChanges)
	}
	return nil
}

// RunRing measures routing. What depends on nothing but the processor, lookups and the rings themselves, is measured first, while nothing
// else runs in the process; then requests to a routing service, beside bare requests to a subscriber that sends back what it gets; then how
// long a change is on its way to clients. Everything is held against its yardstick in the same run, taking turns. When ctx ends it
// stops in order and gives ctx's error. Requests that fail are no error of RunRing's: see RingReport.Errors.
func RunRing(ctx context.Context, cfg RingConfig) (report *RingReport, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	b := newRingBench(&cfg)
	if err := b.tables(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	c, err := startRingCluster(ctx, &cfg, fail)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if closing := c.close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("bench: %w", closing))
		}
	}()
	if err := b.requests(ctx, c); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	cfg.Progress("done", 1)
	return b.report(), nil
}
