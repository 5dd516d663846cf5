// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/coordinator"
)

func newTxListCommand(g *globals) *cobra.Command {
	request := coordinator.ListRequest{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List open transactions, or with --history finished ones too",
		Long: `List the transactions that are not finished, oldest first. With --history finished ones are listed too, the newest, as
long as the log keeps them (assent serve --history).

OWED names the participants that have not voted, or, when the outcome is known, that have not said it to be done.`,
		Example: "  assent tx list\n  assent tx list --history --limit 20",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if request.Limit < 1 || request.Limit > 10_000 {
				return usagef("--limit %d: want 1 to 10000", request.Limit)
			}
			_, err := ask(cmd.Context(), g, "tx.list", request, g.printList)
			return err
		},
	}
	cmd.Flags().BoolVar(&request.History, "history", false, "list finished transactions too")
	cmd.Flags().IntVar(&request.Limit, "limit", 100, "how many transactions, 1 to 10000")
	return cmd
}

func (g *globals) printList(list *coordinator.ListResponse) {
	if len(list.Transactions) > 0 {
		rows := newTable(g.out, "TRANSACTION", "STARTED (UTC)", "OUTCOME", "FINISHED", "PARTICIPANTS", "OWED", "REASON")
		for i := range list.Transactions {
			t := &list.Transactions[i]
			finished := "no"
			if t.Finished {
				finished = "yes"
			}
			reason := t.Reason
			if t.Participant != "" {
				reason = t.Participant + ": " + reason
			}
			if t.Conflict {
				reason = "conflict: " + reason
			}
			rows.row(t.Tx.String(), clock(t.Started), t.Outcome, finished,
				strings.Join(t.Participants, ","), strings.Join(t.Owed, ","), shorten(reason, 60))
		}
		rows.flush()
	}
	fmt.Fprintf(g.errOut, "%d listed, %d open\n", len(list.Transactions), list.Open)
}
