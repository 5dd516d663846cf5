// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
)

// LocksConfig says how locks are measured. Duration is required, and Dir unless there is Connect.
type LocksConfig struct {
	// Dir is where the server keeps its data; it should be empty.
	Dir string
	// Connect makes a connection to an existing NATS. Default nil: to a server of its own, over TCP.
	Connect func(name string) (*nats.Conn, error)
	// Duration is how long each row, and each part of the yardstick, is measured in all, at least a millisecond a round.
	Duration time.Duration
	// Rounds is in how many slices the Duration is cut, 1 to 1,000; default 5. Each round measures a slice of everything.
	Rounds int
	// Replicas is how many servers hold each stream, 1, 3 or 5; default 1. More than 1 need Connect.
	Replicas int
	// Streams is over how many streams the locks are spread; default that of package locks.
	Streams int
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
	// Progress, when not nil, hears several times a second what is being done, and what part of the whole is, 0 to 1.
	Progress func(step string, done float64)
}

// maxStreams is package locks' bound.
const (
	maxRounds  = 1000
	maxStreams = 64
)

func (cfg LocksConfig) withDefaults() (LocksConfig, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 5
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
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

// Check gives an error that names the first field that is out of its bounds.
func (cfg *LocksConfig) Check() error {
	rounds := max(cfg.Rounds, 1)
	switch {
	case cfg.Dir == "" && cfg.Connect == nil:
		return fmt.Errorf("dir: missing: name a directory for the server's data")
	case cfg.Rounds < 0 || cfg.Rounds > maxRounds:
		return fmt.Errorf("rounds: %d: want 1 to %d", cfg.Rounds, maxRounds)
	case cfg.Duration < time.Duration(rounds)*time.Millisecond:
		return fmt.Errorf("duration: %v: want at least a millisecond for each of %s", cfg.Duration, count(rounds, "round"))
	case cfg.Replicas != 0 && cfg.Replicas != 1 && cfg.Replicas != 3 && cfg.Replicas != 5:
		return fmt.Errorf("replicas: %d: want 1, 3 or 5", cfg.Replicas)
	case cfg.Replicas > 1 && cfg.Connect == nil:
		return fmt.Errorf("replicas: %d: the embedded NATS server is one server; use that of a cluster", cfg.Replicas)
	case cfg.Streams < 0 || cfg.Streams > maxStreams:
		return fmt.Errorf("streams: %d: want 1 to %d, or 0 for the default", cfg.Streams, maxStreams)
	}
	return nil
}

// RunLocks measures locks against raw publishes. In each of its rounds it measures a slice of everything, the yardstick
// between the rows, and every other round the other way about: what slows the machine for a while slows all of them. When ctx ends, it
// stops in order and gives ctx's error; also when a session is lost. Locks that fail are no error of RunLocks': see LocksReport.Errors and LocksRow.Violations.
func RunLocks(ctx context.Context, cfg LocksConfig) (report *LocksReport, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	cfg.Progress("starting", 0)
	c, err := startLockClients(ctx, &cfg, fail)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() {
		if closing := c.close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("bench: %w", closing))
		}
	}()
	b := newLocksBench(&cfg, c)
	if err := b.run(ctx); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return b.report(), nil
}
