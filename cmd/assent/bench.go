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
	cfg                 bench.Config
	connection, handler string
	dir, plot           string
	profiles            profiles
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("log-level") {
				g.LogLevel = logrus.WarnLevel.String() // that parts start is no news here
			}
			return g.bench(cmd.Context(), f)
		},
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
	addBenchFlags(flags, &f.dir, &f.plot, &f.profiles)
	cmd.AddCommand(newBenchLocksCommand(g), newBenchRingCommand(g), newBenchStoresCommand(g))
	return cmd
}

// addBenchFlags adds the flags that all benchmarks have.
func addBenchFlags(flags *pflag.FlagSet, dir, plot *string, p *profiles) {
	flags.StringVar(dir, "dir", "", "`directory` in which the server's data is kept while it runs, to choose a disk (default the system's for temporary files)")
	flags.StringVar(plot, "plot", "", "write a picture of the latencies to this SVG `file`")
	flags.StringVar(&p.cpu, "profile", "", "write a CPU profile of the rows and the yardstick to this `file`, for go tool pprof")
	flags.StringVar(&p.mem, "memprofile", "", "write a profile of all allocations to this `file`")
}

// bench runs the command.
func (g *globals) bench(ctx context.Context, f *benchFlags) (err error) {
	log, err := g.logger()
	if err != nil {
		return err
	}
	bar := newProgress(g.errOut)
	defer bar.end()
	f.cfg.Log, f.cfg.Progress = log, bar.show
	f.cfg.Connection, f.cfg.Handler = bench.Connection(f.connection), bench.Handler(f.handler)
	if f.cfg.Dir, err = os.MkdirTemp(f.dir, "assent-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(f.cfg.Dir)) }()
	if err := f.cfg.Check(); err != nil {
		return usagef("--%w", err)
	}
	var report *bench.Report
	err = f.profiles.of(func() (err error) {
		report, err = bench.Run(ctx, f.cfg)
		return err
	})
	bar.end()
	if err != nil {
		return err
	}
	return g.tellBench(report, f.plot)
}

// tellBench prints what was found, and is an error when something failed.
func (g *globals) tellBench(report *bench.Report, plot string) error {
	if err := g.tellMeasured(report, plot); err != nil {
		return err
	}
	if report.Errors() > 0 || report.OpenAfter > 0 {
		return &exitError{code: exitFailure} // the output says what
	}
	return nil
}

// measured is what a benchmark found.
type measured interface {
	WriteTable(io.Writer) error
	WritePlot(io.Writer) error
}

// tellMeasured draws the plot, if one is wanted, and prints the table or the JSON object.
func (g *globals) tellMeasured(report measured, plot string) error {
	if plot != "" {
		var svg bytes.Buffer
		if err := report.WritePlot(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(plot, svg.Bytes(), 0o644); err != nil {
			return err
		}
	}
	if g.JSON {
		return g.printJSON(report)
	}
	return report.WriteTable(g.out)
}
