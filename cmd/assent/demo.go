// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/demo"
)

func newDemoCommand(g *globals) *cobra.Command {
	var cfg demo.Config
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch money move atomically between banks while processes are killed, or nodes come and go",
		Long: `Runs assent serve and two banks as processes of their own, and moves money between accounts of both. Some transfers are
overdrawn, so that a bank refuses them. Meanwhile it kills (kill -9) a bank, then assent serve, which is coordinator and NATS
server at once, then the other bank, and restarts each on its data.

With --coordinators 2 it runs two of them on a NATS server of its own, and kills the one that leads: the other takes over when its
lease has run out. The killed one is started again after that.

With --nodes N the banks are N nodes of a group that share its accounts, and transfers name accounts only: each finds the node by the
ring. Nodes are killed as banks are. With --rebalance nobody is killed: one node is added and then one removed while money moves, and
the load goes on until both is done, so that --transfers is the least number of them.

Then it compares, for every transfer, what its client was told, what the log says and what stands in all banks' files; of nodes also that
every account is where the ring says, and nowhere else. Exit code 0 means: all agree, nothing is open or in doubt, and the total is what
it was. Anything else is told by transaction or account, with exit code 1, and the data is kept.

recovery_ms is the time from the kill of assent serve (or of the coordinator that leads) to the first commit of a transfer that began after it (the longest, were
there several kills); tps counts transfers that ended, over the whole time with its kills. longest_unavailable_ms is the longest time that a transfer took, through all
its tries, while partitions moved. Amounts are cents.`,
		Example: `  assent demo
  assent demo --transfers 50000 --concurrency 256
  assent demo --coordinators 2
  assent demo --nodes 4 --rebalance
  assent demo --dir ./demo-data --seed 7`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return g.demo(cmd.Context(), cfg) },
	}
	flags := cmd.Flags()
	flags.IntVar(&cfg.Transfers, "transfers", 5000, fmt.Sprintf("`number` of transfers, 1 to %d", demo.MaxTransfers))
	flags.IntVar(&cfg.Concurrency, "concurrency", 64, fmt.Sprintf("`number` of transfers under way at once, 1 to %d", demo.MaxConcurrency))
	flags.Uint64Var(&cfg.Seed, "seed", 1, "decides who pays whom how much")
	flags.IntVar(&cfg.Coordinators, "coordinators", 1, fmt.Sprintf("`number` of coordinators, 1 to %d; of several the one that leads is killed", demo.MaxCoordinators))
	flags.IntVar(&cfg.Nodes, "nodes", 0, fmt.Sprintf("`number` of nodes that share the accounts, 1 to %d (default two banks with accounts of their own)", demo.MaxNodes))
	flags.BoolVar(&cfg.Rebalance, "rebalance", false, "with --nodes: kill nobody; add a node and remove one")
	flags.BoolVar(&cfg.NoFaults, "no-faults", false, "kill nobody")
	flags.StringVar(&cfg.Dir, "dir", "", "empty or new `directory` in which the data and the processes' logs are kept (default a temporary one)")
	return cmd
}

// demo runs the command.
func (g *globals) demo(ctx context.Context, cfg demo.Config) (err error) {
	if err := cfg.Check(); err != nil {
		return usagef("--%w", err)
	}
	if cfg.Exe, err = os.Executable(); err != nil {
		return err
	}
	bar := newProgress(g.errOut)
	defer bar.end()
	cfg.Prefix, cfg.LogLevel = g.Prefix, g.LogLevel
	cfg.Progress = func(ended, transfers int) { bar.show("transfers", float64(ended)/float64(transfers)) }
	cfg.Event = func(text string) {
		bar.end()
		fmt.Fprintln(g.errOut, text)
	}
	report, err := demo.Run(ctx, cfg)
	bar.end()
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: its processes have ended", err)
	}
	if report == nil {
		return err
	}
	return g.tellDemo(report, err)
}

// tellDemo prints the report, and the mismatches when there are any.
func (g *globals) tellDemo(report *demo.Report, err error) error {
	if !g.JSON {
		g.printDemo(report)
		if err == nil {
			fmt.Fprintln(g.out, "\nThe clients, the log and all banks agree on every transfer.")
		}
		return err
	}
	out := struct {
		*demo.Report
		Error      *errorReport `json:"error,omitempty"`
		Mismatches []string     `json:"mismatches,omitempty"`
	}{Report: report}
	if err != nil {
		out.Error = reportOf(err)
	}
	var mismatch *demo.MismatchError
	if errors.As(err, &mismatch) {
		out.Mismatches = mismatch.Mismatches
	}
	if printing := g.printJSON(out); printing != nil || err == nil {
		return printing
	}
	fmt.Fprintln(g.errOut, "assent:", err)
	return &exitError{exitFailure, nil}
}

func (g *globals) printDemo(r *demo.Report) {
	fmt.Fprintf(g.out, "%d transfers in %.1f s, %.0f a second\n\n", r.Submitted, r.Seconds, r.TPS)
	outcomes := newTable(g.out, "COMMITTED", "ABORTED", "UNRESOLVED", "IN DOUBT")
	outcomes.row(strconv.Itoa(r.Committed), strconv.Itoa(r.Aborted), strconv.Itoa(r.Unresolved), strconv.Itoa(r.InDoubt))
	outcomes.flush()
	fmt.Fprintln(g.out)
	if r.GroupReport == nil {
		g.printBanks(r)
	} else {
		g.printAccounts(r)
	}
	if len(r.Faults) == 0 {
		return
	}
	fmt.Fprintln(g.out)
	faults := newTable(g.out, "KILLED", "AT", "NEW TRANSFERS COMMIT AFTER", "THOSE UNDER WAY HAVE ENDED AFTER")
	for _, f := range r.Faults {
		faults.row(f.Victim, fmt.Sprintf("%d %%", f.Percent), f.Again.Round(time.Millisecond).String(), f.Settled.Round(time.Millisecond).String())
	}
	faults.flush()
}

func (g *globals) printBanks(r *demo.Report) {
	totals := newTable(g.out, "TOTAL", "BEFORE", "AFTER")
	for _, b := range r.Banks {
		totals.row(b.Name, demo.Euros(b.Before), demo.Euros(b.After))
	}
	totals.row("both", demo.Euros(r.TotalBefore), demo.Euros(r.TotalAfter))
	totals.flush()
}

// printAccounts tells where the accounts are in the end, and what the changes cost.
func (g *globals) printAccounts(r *demo.Report) {
	totals := newTable(g.out, "NODE", "ACCOUNTS", "TOTAL")
	for _, b := range r.Banks {
		totals.row(b.Name, strconv.Itoa(b.Accounts), demo.Euros(b.After))
	}
	totals.row("all, before", "", demo.Euros(r.TotalBefore))
	totals.row("all, after", "", demo.Euros(r.TotalAfter))
	totals.flush()
	if len(r.Changes) == 0 {
		return
	}
	fmt.Fprintf(g.out, "\n%d partitions moved in %d epochs; %d transfers met a move and were tried again\n\n", r.Moved, r.Epochs, r.Retried)
	changes := newTable(g.out, "CHANGE", "PARTITIONS MOVED", "TOOK", "TRANSFERS A SECOND BEFORE", "DURING", "AFTER", "DURING/BEFORE", "LONGEST WAIT FOR A KEY")
	for i := range r.Changes {
		c := &r.Changes[i]
		changes.row(c.What, fmt.Sprintf("%d of %d", c.Moved, c.Partitions), fmt.Sprintf("%.1f s", c.Seconds),
			fmt.Sprintf("%.0f", c.Before), fmt.Sprintf("%.0f", c.During), fmt.Sprintf("%.0f", c.After), fmt.Sprintf("%.2f", c.Ratio),
			fmt.Sprintf("%.0f ms", c.LongestMS))
	}
	changes.flush()
}
