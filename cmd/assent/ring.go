// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/router"
)

func newRingCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ring",
		Short: "Show and change which node owns which keys",
		Long: `Show and change the groups of nodes that share keys. A group's keys fall into partitions, and each partition has one owner, a node of the
group. Which one is what a ring says: a table, made so that each node has its part by weight, and that a change moves no more than it must.

Every change makes the next epoch of the group's ring. In groups of kind handoff and data a partition moves when its owner has let
go of it; --wait waits until nothing moves any more, and --dry-run tells what would move, and changes nothing.`,
		Example: `  assent ring create orders --partitions 4096 --kind data
  assent ring show orders
  assent ring weight orders n1 20 --dry-run
  assent ring drain orders n1 --wait && assent ring remove orders n1
  assent route orders customer/4711`,
		Args: cobra.NoArgs,
		RunE: g.helpOnly,
	}
	cmd.AddCommand(
		newRingListCommand(g), newRingShowCommand(g),
		newRingCreateCommand(g), newRingDeleteCommand(g),
		newRingAddCommand(g), newRingRemoveCommand(g), newRingDrainCommand(g), newRingWeightCommand(g),
		newRingPinCommand(g), newRingUnpinCommand(g),
	)
	return cmd
}

func newRingListCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the groups",
		Long: `List the groups: kind, nodes and how many of them are down, partitions, how many of those are moving or wait to, how many nobody owns,
and how evenly they are shared: the most that a node owns over its part by weight.`,
		Example: "  assent ring list\n  assent ring list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askRouter(cmd.Context(), g, "ring.list", struct{}{}, g.printGroups)
		},
	}
}

func (g *globals) printGroups(list *router.ListResponse) {
	if len(list.Groups) > 0 {
		rows := newTable(g.out, "GROUP", "KIND", "NODES", "DOWN", "PARTITIONS", "TO MOVE", "UNOWNED", "PEAK/AVERAGE", "EPOCH", "PROBLEM")
		for i := range list.Groups {
			group := &list.Groups[i]
			rows.row(group.Group, group.Kind, strconv.Itoa(len(group.Nodes)), strconv.Itoa(nodesDown(group)), strconv.Itoa(group.Partitions),
				strconv.Itoa(group.Moving+group.Waiting), strconv.Itoa(group.Unowned), peak(group), strconv.FormatUint(group.Epoch, 10), shorten(group.Problem, 60))
		}
		rows.flush()
	}
	fmt.Fprintf(g.errOut, "%s\n", count(len(list.Groups), "group"))
}

func nodesDown(group *router.Group) (down int) {
	for i := range group.Nodes {
		if group.Nodes[i].State == router.StateDown {
			down++
		}
	}
	return down
}

// peak is how evenly partitions are shared; nothing when nobody has any.
func peak(group *router.Group) string {
	if group.Peak == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", group.Peak)
}

// percent is a part of the whole.
func percent(part float64) string { return fmt.Sprintf("%.1f %%", 100*part) }

// showOptions are the flags of `assent ring show`.
type showOptions struct {
	svg        string
	partitions bool
}

// showReport is the JSON object of `assent ring show`.
type showReport struct {
	*router.Group
	// Owners are the owners by partition, and Targets those to be when nothing moves any more, if they differ; "" for nobody.
	Owners  []string `json:"owners,omitempty"`
	Targets []string `json:"targets,omitempty"`
}

func newRingShowCommand(g *globals) *cobra.Command {
	o := &showOptions{}
	cmd := &cobra.Command{
		Use:   "show GROUP",
		Short: "Show a group's nodes, and how its partitions are shared",
		Long: `Show a group: its settings, its nodes, how many partitions each owns and what part of all that is, and what moves to it and away from it.

A node is up, down (its session has ended), leaving (its process is ending), removing (an operator takes it out), or static (an operator put it in, and no
process of its own acts for it). With --partitions every partition is listed with its owner, and, when it moves, to whom; with --svg the circle of
partitions is drawn.`,
		Example: `  assent ring show orders
  assent ring show orders --partitions
  assent ring show orders --svg orders.svg
  assent ring show orders --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.showRing(cmd.Context(), o, args[0])
		},
	}
	cmd.Flags().StringVar(&o.svg, "svg", "", "draw the circle of partitions to this SVG `file`")
	cmd.Flags().BoolVar(&o.partitions, "partitions", false, "list every partition's owner")
	return cmd
}

func (g *globals) showRing(ctx context.Context, o *showOptions, name string) error {
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	group := new(router.Group)
	request := router.ShowRequest{Group: name, Owners: o.partitions || o.svg != ""}
	if err := g.router(ctx, nc, "ring.show", request, group); err != nil {
		return err
	}
	if o.svg != "" {
		if err := drawRing(o.svg, group); err != nil {
			return err
		}
	}
	switch {
	case g.JSON && o.partitions:
		return g.printJSON(&showReport{group, ownerNames(group, group.Owners), ownerNames(group, group.Targets)})
	case g.JSON:
		group.Moves = nil // asked for with the owners, to draw these
		return g.printJSON(&showReport{Group: group})
	}
	g.printGroup(group)
	if o.partitions {
		g.printPartitions(group)
	}
	return nil
}

func (g *globals) printGroup(group *router.Group) {
	fmt.Fprintf(g.out, "group %s: kind %s, %s, epoch %d of incarnation %d\n", plain(group.Group), group.Kind, count(group.Partitions, "partition"), group.Epoch, group.Incarnation)
	fmt.Fprintf(g.out, "moving: %d, waiting to move: %d, without an owner: %d; grace %v, at most %d moving at a time\n",
		group.Moving, group.Waiting, group.Unowned, grace(group.GraceMS), group.Batch)
	if group.Peak > 0 {
		fmt.Fprintf(g.out, "balance: the peak is %s × the average\n", peak(group))
	}
	if len(group.Nodes) == 0 {
		fmt.Fprintln(g.errOut, "the group has no nodes: nodes join by themselves, or put one in with assent ring add")
	} else {
		fmt.Fprintln(g.out)
		g.printNodes(group)
	}
	if len(group.Pins) > 0 {
		fmt.Fprintf(g.out, "\npinned partitions: %s\n", plain(strings.Join(pinned(group.Pins), ", ")))
	}
}

func (g *globals) printNodes(group *router.Group) {
	rows := newTable(g.out, "NODE", "STATE", "WEIGHT", "ZONE", "PARTITIONS", "SHARE", "MOVING IN", "MOVING OUT", "SUBJECT")
	for i := range group.Nodes {
		n := &group.Nodes[i]
		rows.row(n.Node, n.State, strconv.Itoa(n.Weight), n.Zone, strconv.Itoa(n.Partitions), percent(n.Share),
			strconv.Itoa(n.MovingIn), strconv.Itoa(n.MovingOut), n.Subject)
	}
	rows.flush()
}
