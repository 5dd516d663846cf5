// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
)

func newTxCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tx",
		Short:   "Run transactions, and see what became of them",
		Long:    "Run transactions, and see what became of them.",
		Example: "  assent tx run transfer.json\n  assent tx list\n  assent tx show 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11",
		Args:    cobra.NoArgs,
		RunE:    g.helpOnly,
	}
	cmd.AddCommand(
		newTxRunCommand(g), newTxWaitCommand(g), newTxShowCommand(g), newTxListCommand(g), newTxAbortCommand(g), newTxRetryCommand(g),
	)
	return cmd
}

// helpOnly runs a command that is only a group of others.
func (g *globals) helpOnly(cmd *cobra.Command, _ []string) error {
	if g.JSON {
		return usagef("%s: which command? See %s --help", cmd.CommandPath(), cmd.CommandPath())
	}
	return cmd.Help()
}

// idArgument reads a transaction's id from the command line.
func idArgument(text string) (assent.ID, error) {
	id, err := assent.ParseID(text)
	if err != nil {
		return id, usageError(&codedError{"invalid", fmt.Errorf("transaction id %.80q: %w", text, err)})
	}
	return id, nil
}

func newTxAbortCommand(g *globals) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "abort ID",
		Short: "Abort a transaction that is undecided",
		Long: `Abort a transaction that is undecided, and tell how it ended. A decision is never undone: if the transaction was committed
before the abort came, the command says so and ends with exit code 1.`,
		Example: `  assent tx abort 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11 --reason "bank-a is down for the night"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idArgument(args[0])
			if err != nil {
				return err
			}
			response, err := ask(cmd.Context(), g, "tx.abort", coordinator.TxRequest{Tx: id, Reason: reason}, func(r *coordinator.OutcomeResponse) {
				fmt.Fprintln(g.out, sentence(r.Tx, r.Outcome, r.Participant, r.Reason))
			})
			if err == nil && response.Outcome != assent.Aborted.String() {
				err = &exitError{exitFailure, nil}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "operator", "`text` that the transaction's log and its clients get as the reason")
	return cmd
}

func newTxRetryCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "retry ID",
		Short: "Send a transaction's outcome again, now, to those who owe a done",
		Long: `Send a decided transaction's outcome again, now, to the participants that have not said it to be done. The coordinator does so
by itself for ever, with growing pauses; this is for who has just repaired a participant and does not want to wait.`,
		Example: "  assent tx retry 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idArgument(args[0])
			if err != nil {
				return err
			}
			_, err = ask(cmd.Context(), g, "tx.retry", coordinator.TxRequest{Tx: id}, g.printRetry)
			return err
		},
	}
}

func (g *globals) printRetry(r *coordinator.RetryResponse) {
	if len(r.Sent) == 0 {
		fmt.Fprintf(g.out, "%s: nobody owes a done\n", r.Tx)
	}
	for _, name := range r.Sent {
		fmt.Fprintf(g.out, "%s: sent to %s\n", r.Tx, name)
	}
}

// sentence is an outcome in words.
func sentence(id assent.ID, outcome, participant, reason string) string {
	s := outcome + " " + id.String()
	if participant != "" {
		s += ": " + participant + " refused"
	}
	if reason != "" {
		s += ": " + reason
	}
	return plain(s)
}
