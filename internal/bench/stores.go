// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sirupsen/logrus"
)

// The stores of a StoresConfig.
const (
	StoreBank     = "bank"     // the bank of the examples, on bbolt, beside participants that do nothing
	StorePostgres = "postgres" // participant/postgres, beside the same two-phase commit written by hand
	StoreKV       = "kv"       // participant/kv, beside the two writes of a transfer alone
)

// AllStores are those that can be measured, in the order in which they are.
var AllStores = []string{StoreBank, StorePostgres, StoreKV}

// StoresConfig says which stores are measured. Dir and Duration are required.
type StoresConfig struct {
	// Dir is where the servers keep their data; it should be empty. PostgreSQL, started by root, runs as the user nobody, who must be able to reach it.
	Dir string
	// Stores are some of AllStores; default all.
	Stores []string
	// Clients are the numbers of clients, 1 to 16,384 each; default those that a store has a target for.
	Clients []int
	// Duration is how long each row, and its yardstick, is measured in all, at least a millisecond a round.
	Duration time.Duration
	// Rounds is in how many slices the Duration is cut, 1 to 1,000; default 5. Each round measures a slice of everything.
	Rounds int
	// Postgres are the connection strings of two databases in which the tables assent_bench_accounts and assent_bench_entries may be made
	// and dropped, with max_prepared_transactions enough; default two servers of the run's own.
	Postgres []string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
	// Progress, when not nil, hears several times a second what is being done, and what part of the whole is, 0 to 1.
	Progress func(step string, done float64)
}

func (cfg StoresConfig) withDefaults() (StoresConfig, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 5
	}
	if len(cfg.Stores) == 0 {
		cfg.Stores = AllStores
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
func (cfg *StoresConfig) Check() error {
	for i, store := range cfg.Stores {
		if !slices.Contains(AllStores, store) || slices.Contains(cfg.Stores[:i], store) {
			return fmt.Errorf("store: %q: want some of %q, each once", store, AllStores)
		}
	}
	for _, clients := range cfg.Clients {
		if clients < 1 || clients > maxClients {
			return fmt.Errorf("clients: %d: want 1 to %d", clients, maxClients)
		}
	}
	rounds := max(cfg.Rounds, 1)
	switch {
	case cfg.Dir == "":
		return fmt.Errorf("dir: missing: name a directory for the servers' data")
	case cfg.Rounds < 0 || cfg.Rounds > maxRounds:
		return fmt.Errorf("rounds: %d: want 1 to %d", cfg.Rounds, maxRounds)
	case cfg.Duration < time.Duration(rounds)*time.Millisecond:
		return fmt.Errorf("duration: %v: want at least a millisecond for each of %s", cfg.Duration, count(rounds, "round"))
	case len(cfg.Postgres) != 0 && len(cfg.Postgres) != 2:
		return fmt.Errorf("postgres: %s: want none, or two", count(len(cfg.Postgres), "database"))
	}
	return nil
}

// RunStores measures transactions over real stores, each beside a yardstick of its own, in rounds: a slice of the one, then a slice of
// the other, every other round the other way about. When ctx ends, it stops in order and gives ctx's error. It is databases.ErrNotInstalled
// where PostgreSQL is not. Transactions that fail are no error of RunStores': see StoresReport.Errors.
func RunStores(ctx context.Context, cfg StoresConfig) (report *StoresReport, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	b := &storesBench{cfg: &cfg, report: newStoresReport(&cfg), fail: fail}
	for i, store := range cfg.Stores {
		b.before = float64(i) / float64(len(cfg.Stores))
		if err := b.measure(ctx, store); err != nil {
			return nil, fmt.Errorf("bench: %s: %w", store, err)
		}
	}
	cfg.Progress("done", 1)
	b.report.judge()
	return b.report, nil
}

// close ends what a store's part of the run has started, and keeps the error of what went before.
func closeAfter(c *cluster, err *error) {
	*err = errors.Join(*err, c.close())
}
