// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/bench"
)

// benchStoresFlags are the flags of `assent bench stores`.
type benchStoresFlags struct {
	benchOptions
	cfg bench.StoresConfig
}

func newBenchStoresCommand(g *globals) *cobra.Command {
	f := &benchStoresFlags{}
	cmd := &cobra.Command{
		Use:   "stores",
		Short: "Measure transactions over real stores, each beside a yardstick, on this machine",
		Long: `Measures transfers between two stores, each beside what it costs without Assent or without the store:

  bank      the bank of the examples, on bbolt, beside participants that do nothing
  postgres  two PostgreSQL databases, beside the same two-phase commit written by hand, which no crash may meet; and that with the
            databases behind NATS and each decision in one durable message, the least that a crash does not leave in doubt, beside the same
  kv        two keys of two JetStream KV buckets, beside the two writes alone; few keys that everybody wants, beside many; and these without
            waiting for locked keys (no-wait), beside the same, waiting

Everything runs on servers of its own in a temporary directory and syncs to disk. It is measured in rounds, in turns with its yardstick: compare
ratios; what else runs on the machine moves the absolute figures. At the end the money is counted.
Exit code 1 if a transaction failed or stayed open, or money came or went; with --check also if a target was missed, which noise alone can do.`,
		Example: `  assent bench stores
  assent bench stores --store kv --duration 10s --check
  assent bench stores --store postgres --postgres postgres://localhost/a --postgres postgres://localhost/b --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.benchStores(cmd, f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.cfg.Stores, "store", bench.AllStores, "the `stores` that are measured")
	flags.IntSliceVar(&f.cfg.Clients, "clients", nil, "`numbers` of clients (default those that a store has a target for)")
	flags.DurationVar(&f.cfg.Duration, "duration", 5*time.Second, "how long each row, and its yardstick, is measured in all")
	flags.IntVar(&f.cfg.Rounds, "rounds", 5, "`number` of slices that the duration is cut in")
	flags.StringArrayVar(&f.cfg.Postgres, "postgres", nil, "two databases' `DSN`s, in which tables assent_bench_… are made and dropped (default two servers of its own)")
	f.addCheckTo(flags)
	f.addTo(flags)
	return cmd
}

func (g *globals) benchStores(cmd *cobra.Command, f *benchStoresFlags) error {
	return g.measure(cmd, &f.benchOptions, func(dir string, log *logrus.Logger, progress func(string, float64)) error {
		f.cfg.Dir, f.cfg.Log, f.cfg.Progress = dir, log, progress
		return f.cfg.Check()
	}, func(ctx context.Context) (measured, error) { return bench.RunStores(ctx, f.cfg) })
}
