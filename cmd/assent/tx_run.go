// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// outcomeReport is the JSON object of `assent tx run` and `assent tx wait`.
type outcomeReport struct {
	Tx assent.ID `json:"tx"`
	// Outcome is "committed", "aborted" or "unknown".
	Outcome string `json:"outcome"`
	// Attempts is how often it was tried, if that was more than once because keys had moved, and Last the id of the last attempt.
	Attempts    int       `json:"attempts,omitempty"`
	Last        assent.ID `json:"last,omitzero"`
	Participant string    `json:"participant,omitempty"` // who refused
	Reason      string    `json:"reason,omitempty"`
	// Conflict: it was aborted because it met another transaction, and may be run again, as a new one.
	Conflict bool `json:"conflict,omitempty"`
	// Error says why the outcome is unknown.
	Error *errorReport `json:"error,omitempty"`
}

const outcomeCodes = `Exit codes: 0 committed, 3 aborted (with "conflict" it may be run again, as a new transaction), 4 the outcome is unknown (ask again with the id), 2 wrong usage or a transaction
that breaks a rule, 1 anything else.`

const defaultPatience = 30 * time.Second

func newTxRunCommand(g *globals) *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "run FILE|-",
		Short: "Run one transaction, given as JSON",
		Long: `Run one transaction, given as JSON in a file or on standard input, and wait for its outcome:

  {"timeout_ms": 30000,
   "operations": [
     {"participant": "bank-a", "keys": ["account/1"], "shared": ["rates"], "payload": {"account": "1", "cents": -500}},
     {"group": "accounts", "key": "account/2", "payload": {"account": "2", "cents": 500}}]}

An operation names its participant, or a group of nodes (assent ring) and a key: it goes to the node that owns the key. When
the key moves to another node meanwhile, the transaction is tried again by itself, and that is told.

"tx" may give an id, minted at most a minute before; without it one is minted, and told on standard error. "timeout_ms" (1000 to
86400000, default 30000), "keys", "shared", "payload", "locks" and "trace" may be left out. Running the same id again is the same transaction.

No other transaction touches its "keys" at the participant until it is over, nor, unless it shares them too, its "shared" ones.
"locks": ["stock/7"] locks keys of the bucket assent-locks (assent lock) for the whole transaction. When it meets another
transaction and has to give way, nothing happened (exit code 3, "conflict"): run it again, under another id or none.

` + outcomeCodes,
		Example: `  assent tx run transfer.json
  echo '{"operations":[{"participant":"bank-a","payload":{"cents":500}}]}' | assent tx run - --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if patience <= 0 {
				return usagef("--patience %v: want more than 0", patience)
			}
			sub, err := g.readTransaction(args[0])
			if err != nil {
				return err
			}
			return g.runTransaction(cmd.Context(), sub, patience)
		},
	}
	cmd.Flags().DurationVar(&patience, "patience", defaultPatience, "how long, after the transaction's timeout, to go on asking for the outcome")
	return cmd
}

func (g *globals) runTransaction(ctx context.Context, sub *messages.Submission, patience time.Duration) error {
	nc, client, err := g.client(ctx, patience)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer client.Close() //nolint:contextcheck // also when ctx has ended
	tx := client.Begin(assent.WithID(sub.Tx), assent.WithTimeout(sub.Timeout()), assent.WithTrace(sub.Trace))
	for i := range sub.Locks {
		tx.Lock(sub.Locks[i].Key)
	}
	for i := range sub.Operations {
		op := &sub.Operations[i]
		if op.Route != nil {
			tx.EnlistKey(op.Route.Group, op.Route.Key, op.Payload, assent.Keys(op.Keys...), assent.SharedKeys(op.Shared...))
		} else {
			tx.Enlist(op.Participant, op.Payload, assent.Keys(op.Keys...), assent.SharedKeys(op.Shared...))
		}
	}
	err = tx.Commit(ctx)
	report := outcomeReport{Tx: sub.Tx}
	if tx.Last() != sub.Tx {
		report.Last, report.Attempts = tx.Last(), attempts(sub.Tx, tx.Last())
	}
	return g.tellOutcome(&report, err)
}

// attempts counts the ids from a transaction's first attempt to its last.
func attempts(first, last assent.ID) int {
	n := 1
	for id := first; id != last; id = id.Next() {
		n++
	}
	return n
}

// client connects, and gives a client once a coordinator answers.
func (g *globals) client(ctx context.Context, patience time.Duration) (*nats.Conn, *assent.Client, error) {
	log, err := g.logger()
	if err != nil {
		return nil, nil, err
	}
	nc, err := g.connect()
	if err != nil {
		return nil, nil, err
	}
	if err := g.findCoordinator(ctx, nc); err != nil {
		nc.Close()
		return nil, nil, err
	}
	client, err := assent.New(nc, assent.Config{Prefix: g.Prefix, Patience: patience, Log: log}) //nolint:contextcheck // the client lives until Close
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, client, nil
}

// tellOutcome prints what came of a transaction, whose error is as Commit's; other errors it passes on.
func (g *globals) tellOutcome(report *outcomeReport, err error) error {
	code := exitOK
	var aborted *assent.AbortedError
	switch {
	case err == nil:
		report.Outcome = assent.Committed.String()
	case errors.As(err, &aborted):
		report.Outcome, report.Participant, report.Reason = assent.Aborted.String(), aborted.Participant, aborted.Reason
		report.Conflict = aborted.Conflict
		code = exitAborted
	case errors.Is(err, assent.ErrUnknown), errors.Is(err, assent.ErrNotFound):
		report.Outcome, report.Error = "unknown", reportOf(err)
		code = exitUnknown
	case errors.Is(err, assent.ErrInvalid), errors.Is(err, assent.ErrTooLarge):
		return usageError(err)
	default:
		return err
	}
	if g.JSON {
		if err := g.printJSON(report); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(g.out, sentence(report.Tx, report.Outcome, report.Participant, report.Reason))
		if report.Attempts > 1 {
			fmt.Fprintf(g.errOut, "tried %d times, because keys had moved; the last attempt is %s\n", report.Attempts, report.Last)
		}
		if report.Conflict {
			fmt.Fprintln(g.errOut, "it met another transaction, and nothing happened; run it again, as a new transaction: under another id, or none")
		}
		if report.Error != nil {
			g.complain(err)
		}
	}
	if code == exitOK {
		return nil
	}
	return &exitError{code, nil}
}

func newTxWaitCommand(g *globals) *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait for a transaction's outcome",
		Long: `Wait for a transaction's outcome, and tell it. A transaction that neither the coordinator nor its log's history knows is
unknown: it never reached the coordinator, or is older than the history.

` + outcomeCodes,
		Example: "  assent tx wait 01934b1c-7b1e-7c3a-9d52-3a6f0c1e9a11 --patience 5m",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := idArgument(args[0])
			if err != nil {
				return err
			}
			if patience <= 0 {
				return usagef("--patience %v: want more than 0", patience)
			}
			return g.waitTransaction(cmd.Context(), id, patience)
		},
	}
	cmd.Flags().DurationVar(&patience, "patience", defaultPatience, "how long to wait before the outcome is called unknown")
	return cmd
}

func (g *globals) waitTransaction(ctx context.Context, id assent.ID, patience time.Duration) error {
	nc, client, err := g.client(ctx, patience)
	if err != nil {
		return err
	}
	defer nc.Close()
	defer client.Close() //nolint:contextcheck // also when ctx has ended
	outcome, err := client.Wait(ctx, id)
	if err == nil && outcome == assent.Aborted {
		err = g.whyAborted(ctx, nc, id)
	}
	return g.tellOutcome(&outcomeReport{Tx: id}, err)
}

// whyAborted is the error of an aborted transaction, by its last attempt; who refused it and why are left out if they cannot
// be learnt.
func (g *globals) whyAborted(ctx context.Context, nc *nats.Conn, id assent.ID) error {
	aborted := &assent.AbortedError{Tx: id}
	for attempt := id; !attempt.IsZero(); {
		var timeline coordinator.Timeline
		if g.api(ctx, nc, "tx.show", coordinator.TxRequest{Tx: attempt}, &timeline) != nil {
			break
		}
		aborted.Attempt, aborted.Participant, aborted.Reason = attempt, timeline.Participant, timeline.Reason
		aborted.Conflict, aborted.WrongOwner, attempt = timeline.Conflict, timeline.WrongOwner, timeline.Next
	}
	return aborted
}
