// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/internal/check"
	"github.com/assent-tx/assent/internal/check/store"
	"github.com/assent-tx/assent/internal/elle"
)

// exitAnomaly is the exit code of `assent check` when it found an anomaly.
const exitAnomaly = 5

// checkFlags are the flags of `assent check`.
type checkFlags struct {
	cfg                     check.Config
	faults                  string
	history, keep, svg, dot string
	running                 bool // a cluster was named
}

func newCheckCommand(g *globals) *cobra.Command {
	f := &checkFlags{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look for isolation anomalies, while processes are killed and connections break",
		Long: `Runs transactions of several clients on a few keys that several participants share, and meanwhile injects faults: processes are
killed (kill -9) and paused, connections break, and what the server says is lost on the way. Then it looks for anomalies in what the
clients saw: is there an order of the transactions, one after the other, that explains it?

--workload append: transactions append to lists and read them. A read of a list tells in which order everything was appended to it, and
so which transaction must have come before which. A cycle is an anomaly, and its kind (G0, G1c, G-single, G2-item and others) says
which level of isolation it rules out; see docs/isolation.md.
--workload bank: transactions move money between accounts, or read all of them. Every sum must be the same.
--workload kv: as append, with the lists as values of key-value buckets, by the participant of assent serve --kv.

Operations name their keys, so the transactions must be strict serializable. With --no-keys they do not: anomalies are to be expected,
and are found. That shows that the check can fail.

Without --server, --context or --creds it runs a cluster of its own: assent serve (coordinator and NATS server in one), or with
--coordinators 2 and more several on one server, which does not fail. With them it checks that cluster: only its own participants (check-1,
check-2, …) are killed and paused, and only its own connections broken.

--keep writes the history, one event a line (docs/check.md), and --history checks such a file and runs nothing.

Exit codes: 0 no anomaly, 5 an anomaly was found (with --no-keys, too), 1 the check itself failed, 2 wrong usage, 130 interrupted
(what --keep has until then can be checked).`,
		Example: `  assent check
  assent check --no-keys --svg anomaly.svg
  assent check --workload bank --duration 1m --coordinators 3
  assent check --server nats://127.0.0.1:4222 --faults kill,cut
  assent check --history history.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags := cmd.Flags()
			f.running = flags.Changed("server") || flags.Changed("context") || flags.Changed("creds")
			if f.history != "" {
				return g.checkFile(f)
			}
			f.cfg.LogLevel = g.LogLevel
			if !flags.Changed("log-level") { // that parts start and connections break is no news here
				f.cfg.LogLevel, g.LogLevel = logrus.WarnLevel.String(), logrus.ErrorLevel.String()
			}
			return g.check(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	c := &f.cfg
	flags.StringVar(&c.Workload, "workload", check.Append, "what transactions do: append, bank or kv")
	flags.BoolVar(&c.NoKeys, "no-keys", false, "leave out the keys of operations, and with them isolation")
	flags.IntVar(&c.Transactions, "transactions", 0, "at least so many transactions (default 2000, or as --duration has it)")
	flags.DurationVar(&c.Duration, "duration", 0, "run the load at least for so long")
	flags.StringVar(&f.faults, "faults", "all", "what goes wrong: all, none, or some of kill, pause, cut and lose, comma-separated")
	flags.DurationVar(&c.Every, "every", 0, "the time from one fault to the next, about (default 500ms)")
	flags.IntVar(&c.Clients, "clients", 16, "`number` of clients, each with one transaction at a time")
	flags.IntVar(&c.Participants, "participants", 3, "`number` of participants, or buckets, which share the keys")
	flags.IntVar(&c.Coordinators, "coordinators", 1, "`number` of coordinators of its own cluster")
	flags.IntVar(&c.Keys, "keys", 8, "`number` of lists in use at a time, or of accounts; the fewer, the more conflicts")
	flags.IntVar(&c.Appends, "appends", 32, "`number` of appends to a list, after which another one takes its place")
	flags.Uint64Var(&c.Seed, "seed", 1, "decides what transactions do and what goes wrong")
	flags.StringVar(&c.Name, "name", "check", "what the participants' `name`s begin with")
	flags.StringVar(&c.Dir, "dir", "", "empty or new `directory` in which the data and the processes' logs are kept (default a temporary one)")
	flags.StringVar(&f.keep, "keep", "", "write the history to this `file`")
	flags.StringVar(&f.history, "history", "", "check the history in this `file` (- is standard input) and run nothing")
	flags.StringVar(&f.svg, "svg", "", "draw the first anomaly to this SVG `file`")
	flags.StringVar(&f.dot, "dot", "", "write the first anomaly to this `file`, for Graphviz")
	return cmd
}

// newCheckStoreCommand runs a participant of package store as a process: `assent check` starts several.
func newCheckStoreCommand(g *globals) *cobra.Command {
	var cfg store.Config
	cmd := &cobra.Command{
		Use:    "check-store",
		Short:  "Run a participant of assent check",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Log, err = g.logger(); err != nil {
				return err
			}
			nc, err := g.connect(nats.RetryOnFailedConnect(true),
				nats.ReconnectWait(bankReconnectWait), nats.ReconnectJitter(bankReconnectWait/5, bankReconnectWait/5))
			if err != nil {
				return err
			}
			defer nc.Close()
			cfg.Prefix = g.Prefix
			return store.Run(cmd.Context(), nc, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Name, "name", "check-1", "the participant's `name`")
	flags.StringVar(&cfg.File, "file", "check-1.db", "the `file` with its lists and accounts")
	flags.Int64Var(&cfg.Opening, "opening", 100, "the balance of an account that nobody has used yet")
	return cmd
}

// check runs the command.
func (g *globals) check(ctx context.Context, f *checkFlags) (err error) {
	if err := g.configureCheck(f); err != nil {
		return err
	}
	closeHistory, err := f.openHistory()
	if err != nil {
		return err
	}
	bar := newProgress(g.errOut)
	defer bar.end()
	f.cfg.Progress = bar.show
	f.cfg.Event = func(text string) {
		bar.end()
		fmt.Fprintln(g.errOut, text)
	}
	report, err := check.Run(ctx, f.cfg)
	bar.end()
	err = errors.Join(err, closeHistory())
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%w: its processes have ended, and nothing was checked%s", err, f.afterwards())
	}
	if err != nil {
		return err
	}
	return g.tellCheck(f, report)
}

func (g *globals) configureCheck(f *checkFlags) (err error) {
	c := &f.cfg
	switch f.faults {
	case "all":
	case "none":
		c.Faults = []string{}
	default:
		c.Faults = strings.Split(f.faults, ",")
	}
	c.Prefix = g.Prefix
	if f.running {
		c.Flags, c.Connect = g.flagsAgain(), g.connect
	}
	if c.Exe, err = os.Executable(); err != nil {
		return err
	}
	if err := c.Check(); err != nil {
		return usagef("--%w", err)
	}
	return nil
}

// flagsAgain are the flags by which a process of this program connects as this one does. What comes from the environment is not
// among them: children do not get that.
func (g *globals) flagsAgain() (flags []string) {
	for _, f := range []struct{ name, value string }{
		{"--server", g.Server}, {"--context", g.Context}, {"--creds", g.Creds}, {"--token-file", g.TokenFile},
	} {
		if f.value != "" {
			flags = append(flags, f.name, f.value)
		}
	}
	if g.Creds == "" && g.TokenFile == "" && os.Getenv("NATS_CREDS") != "" && g.Context == "" {
		flags = append(flags, "--creds", os.Getenv("NATS_CREDS"))
	}
	return flags
}

// openHistory opens the file of --keep.
func (f *checkFlags) openHistory() (closeIt func() error, err error) {
	if f.keep == "" {
		return func() error { return nil }, nil
	}
	file, err := os.Create(f.keep)
	if err != nil {
		return nil, usagef("--keep: %w", err)
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	f.cfg.History = buffered
	return func() error { return errors.Join(buffered.Flush(), file.Close()) }, nil
}

// afterwards says what can be checked after all of what was interrupted.
func (f *checkFlags) afterwards() string {
	if f.keep == "" {
		return ""
	}
	return fmt.Sprintf("; what was seen until then can be: assent check --history %s", f.keep)
}

// checkFile checks a history.
func (g *globals) checkFile(f *checkFlags) error {
	in := g.in
	if f.history != "-" {
		file, err := os.Open(f.history)
		if err != nil {
			return usagef("--history: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	history, err := elle.Decode(in)
	if err != nil {
		return usagef("--history %s: %w", f.history, err)
	}
	return g.tellCheck(f, &check.Report{Report: elle.Check(history, elle.Options{})})
}
