// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tx/assent/router"
)

// pinOptions say what is pinned: one of the flags.
type pinOptions struct {
	changeOptions
	key       string
	partition int
}

func (o *pinOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.key, "key", "", "the partition that this `key` falls into")
	flags.IntVar(&o.partition, "partition", 0, "the partition of this `number`")
	o.changeOptions.addFlags(flags)
}

// fill puts what is pinned into a request.
func (o *pinOptions) fill(request *router.ChangeRequest, changed func(string) bool) error {
	switch key, partition := changed("key"), changed("partition"); {
	case key == partition:
		return usagef("which partition? Give either --key or --partition")
	case key:
		request.Key = &o.key
	default:
		request.Partition = &o.partition
	}
	return nil
}

func newRingPinCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionPin}
	o := &pinOptions{}
	cmd := &cobra.Command{
		Use:   "pin GROUP NODE --key KEY|--partition NUMBER",
		Short: "Have a partition owned by a certain node",
		Long: `Have a partition owned by a certain node, for as long as that is in the group and not drained. All keys of the partition go with it. What is pinned counts
as part of what the node has by its weight.`,
		Example: "  assent ring pin orders n3 --key customer/4711\n  assent ring pin orders n3 --partition 12 --wait",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.fill(request, cmd.Flags().Changed); err != nil {
				return err
			}
			request.Group, request.Node = args[0], args[1]
			return g.changeRing(cmd, &o.changeOptions, request)
		},
	}
	cmd.DisableFlagsInUseLine = true
	o.addFlags(cmd.Flags())
	return cmd
}

func newRingUnpinCommand(g *globals) *cobra.Command {
	request := &router.ChangeRequest{Action: router.ActionUnpin}
	o := &pinOptions{}
	cmd := &cobra.Command{
		Use:     "unpin GROUP --key KEY|--partition NUMBER",
		Short:   "Let a pinned partition be owned by any node",
		Long:    "Let a pinned partition be owned by any node again. It moves only if that makes the parts of the nodes what their weights say.",
		Example: "  assent ring unpin orders --key customer/4711\n  assent ring unpin orders --partition 12 --dry-run",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.fill(request, cmd.Flags().Changed); err != nil {
				return err
			}
			request.Group = args[0]
			return g.changeRing(cmd, &o.changeOptions, request)
		},
	}
	cmd.DisableFlagsInUseLine = true
	o.addFlags(cmd.Flags())
	return cmd
}
