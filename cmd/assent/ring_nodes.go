// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

func newRingAddCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionAdd}
	o := &changeOptions{}
	cmd := &cobra.Command{
		Use:   "add GROUP NODE",
		Short: "Put a node into a group by hand",
		Long: `Put a node into a group that does not join by itself: a static one. It is taken to be up for ever, and nothing is handed over with it. A node that
runs package router joins its group when it starts, and is not put in by hand.`,
		Example: "  assent ring add cache memcached-3 --weight 2 --zone b --subject cache.memcached-3\n  assent ring add cache memcached-3 --dry-run",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Weight < 1 || request.Weight > ring.MaxWeight {
				return usagef("--weight %d: want 1 to %d", request.Weight, ring.MaxWeight)
			}
			request.Group, request.Node = args[0], args[1]
			return g.changeRing(cmd, o, request)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&request.Weight, "weight", 1, "its `part` of the partitions, beside the weights of the others; 1 to 1000")
	flags.StringVar(&request.Zone, "zone", "", "`name` of what it fails together with others, a rack or a datacentre")
	flags.StringVar(&request.Subject, "subject", "", "NATS `subject` on which it takes requests (default <prefix>.node.<group>.<node>)")
	o.addFlags(flags)
	return cmd
}

func newRingRemoveCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionRemove}
	o := &changeOptions{}
	cmd := &cobra.Command{
		Use:   "remove GROUP NODE",
		Short: "Take a node out of a group",
		Long: `Take a node out of a group. One that is up hands over what it owns first, and is listed as removing until its process has ended: stop it when
nothing moves any more. assent ring weight has it stay after all.

One that is down cannot hand over: in a group of kind data what it owns is where its data are, and it takes --force to give that to other nodes, which
do not have them. The last node of a group takes --force too.`,
		Example: "  assent ring remove orders n3 --dry-run\n  assent ring remove orders n3 --force",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Group, request.Node = args[0], args[1]
			return g.changeRing(cmd, o, request)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&request.Force, "force", false, "also when it is down and its data are given up, or the last node")
	return cmd
}

func newRingDrainCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionDrain}
	o := &changeOptions{}
	cmd := &cobra.Command{
		Use:   "drain GROUP NODE",
		Short: "Have a node hand over all that it owns",
		Long: `Have a node hand over all that it owns to the other nodes, by giving it the weight 0. It stays in the group. assent ring weight gives it
a part again.`,
		Example: "  assent ring drain orders n3 --wait\n  assent ring drain orders n3 --dry-run --json",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			request.Group, request.Node = args[0], args[1]
			return g.changeRing(cmd, o, request)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().BoolVar(&request.Force, "force", false, "also when nobody is left with a weight above 0")
	return cmd
}

func newRingWeightCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionWeight}
	o := &changeOptions{}
	cmd := &cobra.Command{
		Use:   "weight GROUP NODE WEIGHT",
		Short: "Change how large a node's part is",
		Long: `Change a node's weight, 1 to 1000: its part of the partitions is its weight over the sum of all weights. It is kept when the node starts again,
whatever weight it then has for itself. A node that was drained, or is being removed, gets a part again. To take everything from one use assent ring drain.`,
		Example: "  assent ring weight orders n3 20 --wait\n  assent ring weight orders n3 20 --dry-run",
		Args:    cobra.ExactArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			weight, err := strconv.Atoi(args[2])
			if err != nil {
				return usagef("the weight %q: want a number, 1 to %d", args[2], ring.MaxWeight)
			}
			request.Group, request.Node, request.Weight = args[0], args[1], weight
			return g.changeRing(cmd, o, request)
		},
	}
	o.addFlags(cmd.Flags())
	return cmd
}
