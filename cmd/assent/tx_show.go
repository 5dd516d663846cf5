// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/coordinator"
)

func newTxShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a transaction's timeline from the log",
		Long: `Show a transaction's whole timeline from the log: each record with its time, its sequence and who wrote it, and what the
coordinator knows about the transaction now. It is found as long as the log's history is kept (assent serve --history).`,
		Example: "  assent tx show 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11\n  assent tx show 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11 --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idArgument(args[0])
			if err != nil {
				return err
			}
			_, err = ask(cmd.Context(), g, "tx.show", coordinator.TxRequest{Tx: id}, g.printTimeline)
			return err
		},
	}
}

func (g *globals) printTimeline(t *coordinator.Timeline) {
	fmt.Fprintln(g.out, sentence(t.Tx, t.Outcome, t.Participant, t.Reason))
	if !t.Next.IsZero() {
		fmt.Fprintf(g.out, "a key had moved (wrong owner, by epoch %d); tried again as %s, if at all\n", t.WrongOwner, t.Next)
	}
	if t.Conflict {
		fmt.Fprintln(g.out, "it met another transaction on a key; its client may have tried again, as a new transaction")
	}
	fmt.Fprintf(g.out, "shard %d", t.Shard)
	if t.Expires != nil {
		fmt.Fprintf(g.out, ", expires %s", clock(*t.Expires))
	}
	switch {
	case t.Finished:
		fmt.Fprint(g.out, ", finished")
	case len(t.Owed) > 0:
		fmt.Fprintf(g.out, ", not done by %s", strings.Join(t.Owed, ", "))
	}
	fmt.Fprint(g.out, "\n\n")
	rows := newTable(g.out, "TIME (UTC)", "SEQUENCE", "KIND", "WRITER", "RECORD")
	for i := range t.Records {
		e := &t.Records[i]
		writer := e.Writer
		if e.To != "" {
			writer += " to " + e.To
		}
		rows.row(clock(e.Time), strconv.FormatUint(e.Sequence, 10), e.Kind, writer, shorten(summarize(e), 100))
	}
	rows.flush()
}

// summarize is what a record says, without what the table says already.
func summarize(e *coordinator.TimelineEntry) string {
	var record struct {
		Vote       string `json:"vote"`
		Held       bool   `json:"held"`
		WrongOwner uint64 `json:"wrong_owner"`
		Conflict   bool   `json:"conflict"`
		Reason     string `json:"reason"`
		Locks      []struct {
			Key string `json:"key"`
		} `json:"locks"`
		Operations []json.RawMessage `json:"operations"`
		Heuristics []json.RawMessage `json:"heuristics"`
	}
	if json.Unmarshal(e.Record, &record) != nil {
		return "malformed: " + string(e.Record)
	}
	var parts []string
	add := func(part string) { parts = append(parts, part) }
	if record.Vote != "" {
		add(record.Vote)
	}
	if record.Held {
		add("(may hold something)")
	}
	if record.WrongOwner != 0 {
		add(fmt.Sprintf("(wrong owner, by epoch %d)", record.WrongOwner))
	}
	if record.Conflict {
		add("(met another transaction)")
	}
	if record.Reason != "" {
		add(record.Reason)
	}
	if n := len(record.Operations); n > 0 {
		add(count(n, "operation") + ":")
	}
	for _, op := range record.Operations {
		add(string(op))
	}
	for i := range record.Locks {
		add("under the lock " + record.Locks[i].Key)
	}
	for _, h := range record.Heuristics {
		add("heuristic: " + string(h))
	}
	return strings.Join(parts, " ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
