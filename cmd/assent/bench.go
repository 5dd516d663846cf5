// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tx/assent/internal/bench"
)

// benchFlags are the flags of `assent bench`.
type benchFlags struct {
	benchOptions
	cfg                 bench.Config
	connection, handler string
}

func newBenchCommand(g *globals) *cobra.Command {
	f := &benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure transactions against raw JetStream publishes, on this machine",
		Long: `Measures transactions, in a closed loop of each number of clients in turn, on a server of its own in a temporary
directory, with every message synced to disk. In the same run, between the rows, it measures the yardstick: single JetStream
publishes to a stream like the log. Compare ratios; what else runs on the machine moves the absolute figures.

The participants do nothing and have, like the client, TCP connections of their own. CPU is that of all together.
Exit code 1 if a transaction failed or stayed open.`,
		Example: `  assent bench
  assent bench --concurrency 256 --duration 2s --json
  assent bench --plot latency.svg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.bench(cmd, f) },
	}
	flags := cmd.Flags()
	flags.IntSliceVar(&f.cfg.Concurrency, "concurrency", []int{1, 16, 64, 256, 1024}, "`numbers` of clients, a row each")
	flags.IntVar(&f.cfg.Participants, "participants", 2, "`number` of participants of each transaction")
	flags.IntVar(&f.cfg.Payload, "payload", 256, "size of each operation's payload, and of the raw messages, in `bytes`")
	flags.DurationVar(&f.cfg.Duration, "duration", 5*time.Second, "how long each row is measured")
	flags.DurationVar(&f.cfg.Warmup, "warmup", time.Second, "what runs before each row and is not measured")
	flags.IntVar(&f.cfg.Shards, "shards", 1, "`number` of logs, as in assent serve")
	flags.StringVar(&f.connection, "coordinator", string(bench.InProcess), "the coordinator's connection: in-process, as in assent serve, or tcp")
	flags.StringVar(&f.handler, "handler", string(bench.Batch), "the participants' `kind`: batch (participant.BatchHandler) or single (participant.Handler)")
	f.addTo(flags)
	cmd.AddCommand(newBenchLocksCommand(g), newBenchRingCommand(g), newBenchStoresCommand(g))
	return cmd
}

func (g *globals) bench(cmd *cobra.Command, f *benchFlags) error {
	f.cfg.Connection, f.cfg.Handler = bench.Connection(f.connection), bench.Handler(f.handler)
	return g.measure(cmd, &f.benchOptions, func(dir string, log *logrus.Logger, progress func(string, float64)) error {
		f.cfg.Dir, f.cfg.Log, f.cfg.Progress = dir, log, progress
		return f.cfg.Check()
	}, func(ctx context.Context) (measured, error) { return bench.Run(ctx, f.cfg) })
}

// benchOptions are the flags that all benchmarks have.
type benchOptions struct {
	dir, plot string
	profiles  profiles
	check     bool // only where there are targets
}

func (o *benchOptions) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&o.dir, "dir", "", "`directory` in which the server's data is kept while it runs, to choose a disk (default the system's for temporary files)")
	flags.StringVar(&o.plot, "plot", "", "write a picture of the latencies to this SVG `file`")
	flags.StringVar(&o.profiles.cpu, "profile", "", "write a CPU profile of the rows and the yardstick to this `file`, for go tool pprof")
	flags.StringVar(&o.profiles.mem, "memprofile", "", "write a profile of all allocations to this `file`")
}

func (o *benchOptions) addCheckTo(flags *pflag.FlagSet) {
	flags.BoolVar(&o.check, "check", false, "exit with code 1 if a target was missed")
}

// measured is what a benchmark found.
type measured interface {
	WriteTable(out io.Writer) error
	WritePlot(out io.Writer) error
	// Faults are how many things went wrong that never may.
	Faults() int64
	TargetsMissed() []string
}

// measure runs a benchmark in a directory of its own, and tells what it found. configure gives the error of a flag.
func (g *globals) measure(cmd *cobra.Command, o *benchOptions, configure func(dir string, log *logrus.Logger, progress func(step string, done float64)) error, run func(context.Context) (measured, error)) (err error) {
	if !cmd.Flags().Changed("log-level") {
		g.LogLevel = logrus.WarnLevel.String() // that parts start is no news here
	}
	log, err := g.logger()
	if err != nil {
		return err
	}
	bar := newProgress(g.errOut)
	defer bar.end()
	dir, err := os.MkdirTemp(o.dir, "assent-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := configure(dir, log, bar.show); err != nil {
		return usagef("--%w", err)
	}
	var report measured
	err = o.profiles.of(func() (err error) {
		report, err = run(cmd.Context())
		return err
	})
	bar.end()
	if err != nil {
		return err
	}
	return g.tell(report, o)
}

func (g *globals) tell(report measured, o *benchOptions) error {
	if o.plot != "" {
		var svg bytes.Buffer
		if err := report.WritePlot(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(o.plot, svg.Bytes(), 0o644); err != nil {
			return err
		}
	}
	out := report.WriteTable
	if g.JSON {
		out = func(io.Writer) error { return g.printJSON(report) }
	}
	if err := out(g.out); err != nil {
		return err
	}
	if report.Faults() > 0 || o.check && len(report.TargetsMissed()) > 0 {
		return &exitError{code: exitFailure} // the output says what
	}
	return nil
}
