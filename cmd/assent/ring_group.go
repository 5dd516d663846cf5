// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

func newRingCreateCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionCreate}
	o := &changeOptions{}
	var grace time.Duration
	cmd := &cobra.Command{
		Use:   "create GROUP",
		Short: "Make a group",
		Long: `Make a group, without nodes. Nodes join by themselves when they start, and make the group when there is none; to make it first is to choose its
settings. None of them can be changed later.

Kinds:
  instant  an owner changes with the epoch, and nothing is handed over: for caches, and for sharing out work
  handoff  an owner lets go of a partition before the next one takes it; what a node had that died is given to others after --grace
  data     as handoff, but a node that died keeps its partitions, for its data are there, until it is back or an operator removes it

A group can have as many nodes as partitions, and is balanced when it has a hundred times fewer.`,
		Example: "  assent ring create orders\n  assent ring create cache --kind instant --partitions 65536 --grace 2s",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Group = args[0]
			switch {
			case request.Kind != "instant" && request.Kind != "handoff" && request.Kind != "data":
				return usagef("--kind %q: want instant, handoff or data", request.Kind)
			case request.Partitions < 1 || request.Partitions > ring.MaxPartitions:
				return usagef("--partitions %d: want 1 to %d", request.Partitions, ring.MaxPartitions)
			case grace < 0 || grace > 0 && grace < time.Millisecond:
				return usagef("--grace %v: want 0 for at once, or at least 1ms", grace)
			case request.Batch < 1:
				return usagef("--batch %d: want 1 to 1024", request.Batch)
			}
			ms := grace.Milliseconds()
			request.GraceMS = &ms
			return g.changeRing(cmd, o, request)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&request.Partitions, "partitions", 4096, "`number` of partitions, 1 to 65536; a hundred times the nodes that there will ever be")
	flags.StringVar(&request.Kind, "kind", "data", "what becomes of a partition when its owner changes or dies: instant, handoff or data")
	flags.DurationVar(&grace, "grace", 5*time.Second, "how long a node may be gone before others get what it owned; not for data")
	flags.IntVar(&request.Batch, "batch", 128, "how many partitions are handed over at a time, 1 to 1024")
	o.addFlags(flags)
	_ = cmd.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions([]string{"instant", "handoff", "data"}, cobra.ShellCompDirectiveNoFileComp)) // it fails only for a flag that is not there
	return cmd
}

func newRingDeleteCommand(g *globals) *cobra.Command {
	request := router.DeleteRequest{}
	cmd := &cobra.Command{
		Use:   "delete GROUP",
		Short: "Delete a group",
		Long: `Delete a group: no key of it has an owner then, and its nodes act for nothing. With nodes in it --force is required. Nodes that are running
make it again, with the settings that they were started with, and what was pinned or weighed by hand is gone: stop them first.`,
		Example: "  assent ring delete orders --dry-run\n  assent ring delete orders --force",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Group = args[0]
			return g.deleteRing(cmd.Context(), request)
		},
	}
	addDryRunFlag(cmd.Flags(), &request.DryRun)
	cmd.Flags().BoolVar(&request.Force, "force", false, "also when the group has nodes")
	return cmd
}

func (g *globals) deleteRing(ctx context.Context, request router.DeleteRequest) error {
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	var response router.DeleteResponse
	if err := g.changing(ctx, nc, "ring.delete", request.Group, request.DryRun, request, &response); err != nil {
		return err
	}
	if g.JSON {
		return g.printJSON(&response)
	}
	verb := "is"
	if response.DryRun {
		verb = "would be"
	}
	fmt.Fprintf(g.out, "group %s %s deleted: epoch %d, %s, %s\n", plain(response.Group), verb, response.Epoch,
		count(response.Nodes, "node"), count(response.Partitions, "partition"))
	return nil
}
