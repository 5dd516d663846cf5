// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/bench"
)

// benchLocksFlags are the flags of `assent bench locks`.
type benchLocksFlags struct {
	benchOptions
	cfg bench.LocksConfig
}

func newBenchLocksCommand(g *globals) *cobra.Command {
	f := &benchLocksFlags{}
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "Measure locks against raw JetStream publishes, on this machine",
		Long: `Measures locks, in a closed loop of each number of clients, on a server of its own in a temporary directory, with every
message synced to disk; or, with --server, --context or --creds, on an existing NATS, where it deletes its streams afterwards. The
yardstick is single JetStream publishes: one publisher, 64 on one stream, and 64 on eight streams. The run is cut in rounds, each of which measures a
slice of everything: compare ratios; what else runs on the machine moves the absolute figures.

Each client has a session and a connection of its own. Uncontended, it has a key of its own too. Contended, all want one key and hold
it for no time; a hand-off is from the call of Unlock by one holder to the return of Lock at the next. Shared, the last of 16 clients wants the
key exclusively. All check under the lock that nobody else is inside, and that fencing tokens grow.
Exit code 1 if a lock failed or let two in at once; with --check also if a target was missed, which noise alone can do.`,
		Example: `  assent bench locks
  assent bench locks --duration 10s --check
  assent bench locks --server nats://127.0.0.1:4222 --replicas 3 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.benchLocks(cmd, f) },
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.cfg.Duration, "duration", 5*time.Second, "how long each row, and each part of the yardstick, is measured in all")
	flags.IntVar(&f.cfg.Rounds, "rounds", 5, "`number` of slices that the duration is cut in, each with a warm-up of a fifth before")
	flags.IntVar(&f.cfg.Replicas, "replicas", 1, "`number` of servers that hold each stream: 1, 3 or 5; more than 1 with an existing NATS only")
	flags.IntVar(&f.cfg.Streams, "streams", 0, "`number` of streams that the locks are spread over (default that of package locks)")
	f.addCheckTo(flags)
	f.addTo(flags)
	return cmd
}

func (g *globals) benchLocks(cmd *cobra.Command, f *benchLocksFlags) error {
	return g.measure(cmd, &f.benchOptions, func(dir string, log *logrus.Logger, progress func(string, float64)) error {
		f.cfg.Dir, f.cfg.Log, f.cfg.Progress = dir, log, progress
		if g.Server != "" || g.Context != "" || g.Creds != "" {
			f.cfg.Dir, f.cfg.Connect = "", func(name string) (*nats.Conn, error) { return g.connect(nats.Name(name)) }
		}
		return f.cfg.Check()
	}, func(ctx context.Context) (measured, error) { return bench.RunLocks(ctx, f.cfg) })
}
