// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/coordinator"
)

func newParticipantsCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "participants",
		Short: "Show who is registered, and what they have not answered",
		Long: `Show every participant that has registered: how many instances answer right now, messages of prepares that it has not
answered, transactions whose outcome it has not said to be done, transactions that it is in doubt about, and the age of the oldest
outcome that it has not said to be done.`,
		Example: "  assent participants\n  assent participants --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := ask(cmd.Context(), g, "participants", struct{}{}, g.printParticipants)
			return err
		},
	}
}

func (g *globals) printParticipants(list *coordinator.ParticipantsResponse) {
	if len(list.Participants) == 0 {
		fmt.Fprintln(g.errOut, "no participant has registered")
		return
	}
	rows := newTable(g.out, "PARTICIPANT", "INSTANCES", "PENDING PREPARES", "PENDING OUTCOMES", "IN DOUBT", "OLDEST")
	for i := range list.Participants {
		p := &list.Participants[i]
		oldest := ""
		if p.OldestSeconds > 0 {
			oldest = time.Duration(p.OldestSeconds * float64(time.Second)).Round(100 * time.Millisecond).String()
		}
		rows.row(p.Name, strconv.Itoa(p.Instances), strconv.Itoa(p.PendingPrepares), strconv.Itoa(p.PendingOutcomes), strconv.Itoa(p.InDoubt), oldest)
	}
	rows.flush()
}
