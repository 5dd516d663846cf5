// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/bench"
)

// benchRingFlags are the flags of `assent bench ring`.
type benchRingFlags struct {
	cfg       bench.RingConfig
	dir, plot string
	profiles  profiles
	check     bool
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				g.LogLevel = logrus.WarnLevel.String() // that parts start is no news here
			}
			return g.benchRing(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.cfg.Duration, "duration", 5*time.Second, "how long lookups at each size, requests with one key and with many are measured in all, each")
	flags.IntVar(&f.cfg.Rounds, "rounds", 5, "`number` of slices that the duration is cut in")
	flags.IntVar(&f.cfg.Keys, "keys", 1_000_000, "`number` of keys that balance and movement are found with")
	flags.IntVar(&f.cfg.Followers, "followers", 50, "`number` of clients that hear of changes")
	flags.IntVar(&f.cfg.Changes, "changes", 10, "`number` of changes in each round")
	flags.BoolVar(&f.check, "check", false, "exit with code 1 if a target was missed")
	addBenchFlags(flags, &f.dir, &f.plot, &f.profiles)
	return cmd
}

// benchRing runs the command.
func (g *globals) benchRing(ctx context.Context, f *benchRingFlags) (err error) {
	log, err := g.logger()
	if err != nil {
		return err
	}
	bar := newProgress(g.errOut)
	defer bar.end()
	f.cfg.Log, f.cfg.Progress = log, bar.show
	if f.cfg.Dir, err = os.MkdirTemp(f.dir, "assent-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.cfg.Dir)) }()
	if err := f.cfg.Check(); err != nil {
		return usagef("--%w", err)
	}
	var report *bench.RingReport
	err = f.profiles.of(func() (err error) {
		report, err = bench.RunRing(ctx, f.cfg)
		return err
	})
	bar.end()
	if err != nil {
		return err
	}
	return g.tellBenchRing(report, f)
}

// tellBenchRing prints what was found, and is an error when something failed.
func (g *globals) tellBenchRing(report *bench.RingReport, f *benchRingFlags) error {
	if err := g.tellMeasured(report, f.plot); err != nil {
		return err
	}
	if report.Faults() > 0 || f.check && len(report.Missed) > 0 {
		return &exitError{code: exitFailure} // the output says what
	}
	return nil
}
