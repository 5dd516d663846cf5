// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/bench"
)

// benchRingFlags are the flags of `assent bench ring`.
type benchRingFlags struct {
	benchOptions
	cfg bench.RingConfig
}

func newBenchRingCommand(g *globals) *cobra.Command {
	f := &benchRingFlags{}
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Measure routing against a Maglev table and bare requests, on this machine",
		Long: `Measures routing. First the rings alone, at 10, 100 and 1000 nodes: lookups, beside those of a Maglev table, which is the hash of the key
and one index; how evenly keys are shared, beside jump hash; how many keys move when nodes join and leave, over the least that must; and how long a new
ring takes. Then, on a server of its own in a temporary directory, requests to a routing service, each beside a bare request to a subscriber that sends
back what it gets, and requests with many keys; and how long it is from a change of the ring until the last of some clients knows it.

Everything is measured in rounds, in turns with its yardstick: compare ratios; what else runs on the machine moves the absolute figures.
Exit code 1 if a request failed, or keys moved between nodes that neither came nor went; with --check also if a target was missed, which noise alone
can do.`,
		Example: `  assent bench ring
  assent bench ring --duration 10s --check
  assent bench ring --keys 100000 --followers 200 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.benchRing(cmd, f) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.cfg.Duration, "duration", 5*time.Second, "how long lookups at each size, requests with one key and with many are measured in all, each")
	flags.IntVar(&f.cfg.Rounds, "rounds", 5, "`number` of slices that the duration is cut in")
	flags.IntVar(&f.cfg.Keys, "keys", 1_000_000, "`number` of keys that balance and movement are found with")
	flags.IntVar(&f.cfg.Followers, "followers", 50, "`number` of clients that hear of changes")
	flags.IntVar(&f.cfg.Changes, "changes", 10, "`number` of changes in each round")
	f.addCheckTo(flags)
	f.addTo(flags)
	return cmd
}

func (g *globals) benchRing(cmd *cobra.Command, f *benchRingFlags) error {
	return g.measure(cmd, &f.benchOptions, func(dir string, log *logrus.Logger, progress func(string, float64)) error {
		f.cfg.Dir, f.cfg.Log, f.cfg.Progress = dir, log, progress
		return f.cfg.Check()
	}, func(ctx context.Context) (measured, error) { return bench.RunRing(ctx, f.cfg) })
}
