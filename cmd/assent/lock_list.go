// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/locks"
)

// lockListReport is the JSON object of `assent lock list`.
type lockListReport struct {
	Bucket string       `json:"bucket"`
	Locks  []locks.Info `json:"locks"`
}

func newLockListCommand(g *globals) *cobra.Command {
	var bucket string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is held or waited for, and by whom",
		Long: `List the locks, semaphores and elections that are held or waited for now, a row for each holder. The record of a holder that
died is listed until its TTL has passed and somebody has taken its place.`,
		Example: "  assent lock list\n  assent lock list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.listLocks(cmd.Context(), bucket)
		},
	}
	addBucketFlag(cmd.Flags(), &bucket)
	return cmd
}

func (g *globals) listLocks(ctx context.Context, bucket string) error {
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	all, none, err := readLocks(ctx, nc, bucket)
	if err != nil {
		return err
	}
	if g.JSON {
		return g.printJSON(&lockListReport{bucket, all})
	}
	if none {
		fmt.Fprintf(g.errOut, "nothing is held: there is no bucket %s yet\n", plain(bucket))
		return nil
	}
	held := 0
	for i := range all {
		held += min(len(all[i].Holders), 1)
	}
	if len(all) > 0 {
		g.printLocks(all)
	}
	fmt.Fprintf(g.errOut, "%d held\n", held)
	return nil
}

// readLocks is locks.List. A bucket that is not there, because nobody has taken a lock yet, has none.
func readLocks(ctx context.Context, nc *nats.Conn, bucket string) (all []locks.Info, none bool, err error) {
	all, err = locks.List(ctx, nc, bucket)
	if errors.Is(err, locks.ErrNoBucket) {
		none, err = true, nil
	}
	if all == nil {
		all = []locks.Info{}
	}
	return all, none, explainLock(err)
}

func (g *globals) printLocks(all []locks.Info) {
	rows := newTable(g.out, "KIND", "KEY", "HOLDER", "MODE", "SINCE (UTC)", "TOKEN", "WAITERS")
	for i := range all {
		l := &all[i]
		waiters := strconv.Itoa(len(l.Waiters))
		if len(l.Holders) == 0 {
			holder := "" // between two of them
			if l.Problem != "" {
				holder = "(" + shorten(l.Problem, 60) + ")"
			}
			rows.row(string(l.Kind), l.Key, holder, "", "", "", waiters)
		}
		for j := range l.Holders {
			h := &l.Holders[j]
			rows.row(string(l.Kind), l.Key, h.Owner, modeOf(l, h), clock(h.Since), h.Token.String(), waiters)
		}
	}
	rows.flush()
}

func modeOf(l *locks.Info, h *locks.Holder) string {
	switch {
	case l.Kind == locks.KindSemaphore:
		return fmt.Sprintf("%d of %d", len(l.Holders), l.Permits)
	case l.Kind == locks.KindElection:
		return "leader"
	case h.Shared:
		return "shared"
	default:
		return "exclusive"
	}
}
