// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/messages"
)

// globals is what all commands share: the flags of the root command and the process's streams.
type globals struct {
	Server    string // URLs of NATS servers, comma-separated; "": the context's, or the default
	Context   string // a context of the nats CLI
	Creds     string // a credentials file
	Token     string // what TokenFile has; also taken from the context
	TokenFile string
	Prefix    string
	JSON      bool
	LogLevel  string

	in     io.Reader
	out    io.Writer // results alone; with JSON one object
	errOut io.Writer // everything else
}

// run is the program: it gives the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	g := &globals{in: in, out: out, errOut: errOut}
	started := false
	root := newRootCommand(g, &started) //nolint:contextcheck // commands take the context from ExecuteContext
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err != nil && !started { // what cobra finds: unknown commands and flags, the number of arguments
		err = usageError(err)
		g.JSON = g.JSON || slices.Contains(args, "--json")
	}
	return g.report(err)
}

func newRootCommand(g *globals, started *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "assent",
		Short: "Atomic transactions across services, over NATS",
		Long: `Assent makes an operation that spans several services atomic: every participant applies it, or none does.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 the transaction aborted, 4 its outcome is unknown, 5 an isolation anomaly (check).
With --json a command prints one JSON object on standard output, errors included, and everything else on standard error.`,
		Example: `  assent demo                      # see it work while processes are killed
  assent serve                     # a coordinator and its NATS server, on 127.0.0.1:4222
  assent tx run transfer.json      # run a transaction
  assent tx list                   # what is open`,
		Args:              cobra.NoArgs,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE:              g.helpOnly,
	}
	g.addFlags(root)
	root.AddCommand(
		newDemoCommand(g),
		newCheckCommand(g),
		newCheckStoreCommand(g),
		newBankCommand(g),
		newBenchCommand(g),
		newServeCommand(g),
		newTxCommand(g),
		newParticipantsCommand(g),
		newLockCommand(g),
		newElectCommand(g),
		newRouteCommand(g),
		newNodesCommand(g),
		newRingCommand(g),
		newCompletionCommand(g),
		newVersionCommand(g),
	)
	noteStart(root, started)
	return root
}

func (g *globals) addFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.StringVarP(&g.Server, "server", "s", "", "NATS server `URLs`, comma-separated (default the context's, $NATS_URL, or "+defaultServer+")")
	flags.StringVar(&g.Context, "context", "", "`name` of a context of the nats CLI (default $NATS_CONTEXT)")
	flags.StringVar(&g.Creds, "creds", "", "NATS credentials `file` (default $NATS_CREDS)")
	flags.StringVar(&g.TokenFile, "token-file", "", "`file` with the token of a NATS server that asks for one")
	flags.StringVar(&g.Prefix, "prefix", messages.DefaultPrefix, "first `token`s of every subject, as the coordinator has them")
	flags.BoolVar(&g.JSON, "json", false, "print one JSON object on standard output, and all else on standard error")
	flags.StringVar(&g.LogLevel, "log-level", "info", "what is logged on standard error: error, warn, info, debug or trace")
}

// noteStart makes every command of the tree note that it was reached: an error before that is one of usage. One about the
// arguments says which are wanted.
func noteStart(cmd *cobra.Command, started *bool) {
	if inner := cmd.Args; inner != nil && !cmd.HasSubCommands() {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := inner(cmd, args); err != nil {
				return argumentsError{err, cmd.UseLine()}
			}
			return nil
		}
	}
	if inner := cmd.RunE; inner != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return inner(cmd, args)
		}
	}
	for _, child := range cmd.Commands() {
		noteStart(child, started)
	}
}

// argumentsError is an error about the arguments of a command, whose line of use says which it wants.
type argumentsError struct {
	err error
	use string
}

func (e argumentsError) Unwrap() error { return e.err }
func (e argumentsError) Error() string {
	if strings.HasPrefix(e.err.Error(), "want ") { // it says so itself
		return e.err.Error()
	}
	return e.err.Error() + ": want " + e.use
}

// logger is a logger on standard error, as --log-level says.
func (g *globals) logger() (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(g.LogLevel)
	if err != nil {
		return nil, usagef("--log-level %q: want error, warn, info, debug or trace", g.LogLevel)
	}
	log := logrus.New()
	log.SetOutput(g.errOut)
	log.SetLevel(level)
	log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true})
	return log, nil
}
