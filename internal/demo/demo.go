// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/assent-tx/assent/messages"
)

// Config says what to show. Exe, Transfers and Concurrency are required.
type Config struct {
	// Exe is the assent program, of which the processes are made.
	Exe string
	// Dir is where data and the processes' logs go; it must be empty or not exist, and is kept. Default: a temporary
	// directory, which is kept only when something went wrong.
	Dir string
	// Prefix is the cluster's subject prefix; default "assent".
	Prefix string
	// LogLevel is what the processes log, as --log-level has it; default "info".
	LogLevel string
	// Transfers is how many there are, 1 to MaxTransfers, and Concurrency how many are under way at once, 1 to MaxConcurrency.
	Transfers, Concurrency int
	// Seed decides who pays whom how much.
	Seed uint64
	// NoFaults kills nobody.
	NoFaults bool
	// Coordinators is how many there are, 1 to MaxCoordinators; 0 means 1, which is assent serve with its own NATS server. More of
	// them share a server, which runs in this process and is not killed; the one that leads is, and another takes over.
	Coordinators int
	// Nodes, 1 to MaxNodes, makes the banks nodes of a group that share its accounts, and this many of them; 0 is two banks
	// with accounts of their own.
	Nodes int
	// Rebalance adds a node and removes one while the load is under way, instead of killing processes. The load goes on until both
	// is done, so Transfers is the least number of them.
	Rebalance bool
	// Progress, when not nil, hears how many transfers have ended, several times a second, and Event what happened. Both are
	// called by the goroutine of Run.
	Progress func(ended, transfers int)
	Event    func(text string)

	// tamper, for tests: called with the directory when the processes have stopped, before their files are read.
	tamper func(dir string) error
}

// The bounds of a Config.
const (
	MaxTransfers   = 200_000
	MaxConcurrency = 4096
	// MaxCoordinators is more than anybody needs.
	MaxCoordinators = 5
	// MaxNodes is what one machine can bear.
	MaxNodes = 16
)

// MismatchError says what does not agree. The data directory is kept.
type MismatchError struct {
	Mismatches []string
	Dir        string
}

// Error gives the first mismatches and where the data is.
func (e *MismatchError) Error() string {
	const shown = 5
	text := fmt.Sprintf("%d mismatches; the data is kept in %s", len(e.Mismatches), e.Dir)
	for _, m := range e.Mismatches[:min(shown, len(e.Mismatches))] {
		text += "\n  " + m
	}
	return text
}

// Check says what is wrong with the figures.
func (cfg *Config) Check() error {
	switch {
	case cfg.Transfers < 1 || cfg.Transfers > MaxTransfers:
		return fmt.Errorf("transfers %d: want 1 to %d", cfg.Transfers, MaxTransfers)
	case cfg.Coordinators < 0 || cfg.Coordinators > MaxCoordinators:
		return fmt.Errorf("coordinators %d: want 1 to %d", cfg.Coordinators, MaxCoordinators)
	case cfg.Nodes < 0 || cfg.Nodes > MaxNodes:
		return fmt.Errorf("nodes %d: want 1 to %d", cfg.Nodes, MaxNodes)
	case cfg.Rebalance && cfg.Nodes == 0:
		return errors.New("rebalance: want nodes, too: two banks have nothing to share")
	case cfg.Concurrency < 1 || cfg.Concurrency > MaxConcurrency:
		return fmt.Errorf("concurrency %d: want 1 to %d", cfg.Concurrency, MaxConcurrency)
	default:
		return nil
	}
}

func (cfg *Config) setDefaults() {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "info"
	}
	if cfg.Progress == nil {
		cfg.Progress = func(int, int) {}
	}
	if cfg.Event == nil {
		cfg.Event = func(string) {}
	}
}

// Run shows it all. Its error is a *MismatchError when the check failed, with the report beside it; any other error means
// that it did not come to the check. No process outlives it.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	dir, err := makeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c, err := newCluster(&cfg, dir, cancel)
	if err == nil {
		report, err = c.show(ctx, &cfg)
		c.killAll()
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // a process that died, or the caller: what came of it is not of interest
	}
	return report, finish(&cfg, dir, err)
}

// makeDir gives an empty data directory.
func makeDir(dir string) (string, error) {
	if dir == "" {
		return os.MkdirTemp("", "assent-demo-")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("directory %s is not empty: name a new one, so that nothing of yours is overwritten", dir)
	}
	return filepath.Abs(dir)
}

// finish removes the directory when nobody can want it, and else tells where it is.
func finish(cfg *Config, dir string, err error) error {
	var mismatch *MismatchError
	switch {
	case errors.As(err, &mismatch):
		mismatch.Dir = dir
		return err
	case err != nil && !errors.Is(err, context.Canceled):
		return fmt.Errorf("%w\nthe data and the logs are kept in %s", err, dir)
	case cfg.Dir != "":
		return err
	default:
		return errors.Join(err, os.RemoveAll(dir))
	}
}

// show is the demo on a cluster that has not been started.
func (c *cluster) show(ctx context.Context, cfg *Config) (*Report, error) {
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	cfg.Event(c.describe())
	l, err := c.load(ctx, cfg)
	if err != nil {
		return nil, err
	}
	cfg.Event("all transfers have ended; asking the clients, the log and the banks")
	e, err := c.gather(ctx, cfg, l)
	if err != nil {
		return nil, err
	}
	report := newReport(c.scene, e, l)
	if mismatches := e.check(); len(mismatches) > 0 {
		return report, &MismatchError{Mismatches: mismatches}
	}
	return report, nil
}
