// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/router"
)

func newNodesCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "nodes [GROUP]",
		Short: "Show the nodes that own keys, and whether they are up",
		Long: `Show the nodes of all groups, or of one: up, down, leaving, removing or static, how many partitions each owns, and what part of all that is. The
session is that of the node's process; assent lock list --bucket <prefix>-nodes shows since when it has been there.`,
		Example: "  assent nodes\n  assent nodes orders --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := router.NodesRequest{}
			if len(args) > 0 {
				request.Group = args[0]
			}
			return askRouter(cmd.Context(), g, "nodes", request, g.printAllNodes)
		},
	}
}

func (g *globals) printAllNodes(list *router.NodesResponse) {
	down := 0
	if len(list.Nodes) > 0 {
		rows := newTable(g.out, "GROUP", "NODE", "STATE", "WEIGHT", "ZONE", "PARTITIONS", "SHARE", "SUBJECT", "SESSION")
		for i := range list.Nodes {
			n := &list.Nodes[i]
			if n.State == router.StateDown {
				down++
			}
			rows.row(n.Group, n.Node, n.State, strconv.Itoa(n.Weight), n.Zone, strconv.Itoa(n.Partitions), percent(n.Share), n.Subject, n.Session)
		}
		rows.flush()
	}
	fmt.Fprintf(g.errOut, "%s, %d down\n", count(len(list.Nodes), "node"), down)
}
