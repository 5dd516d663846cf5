// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/examples/bank"
)

// newBankCommand runs a bank of examples/bank as a process: `assent demo` starts two of them, or the nodes of a group.
func newBankCommand(g *globals) *cobra.Command {
	var cfg bank.Config
	cmd := &cobra.Command{
		Use:    "bank",
		Short:  "Run a bank of the demo",
		Long:   "Run a bank of the demo: a participant whose accounts are in a file. See examples/bank.",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if cfg.Log, err = g.logger(); err != nil {
				return err
			}
			// It may start before the server, and again while that is away. Who waits for one on the same machine can look often.
			nc, err := g.connect(nats.RetryOnFailedConnect(true),
				nats.ReconnectWait(bankReconnectWait), nats.ReconnectJitter(bankReconnectWait/5, bankReconnectWait/5))
			if err != nil {
				return err
			}
			defer nc.Close()
			cfg.Prefix = g.Prefix
			return bank.Run(cmd.Context(), nc, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Name, "name", "bank-a", "the participant's `name`")
	flags.StringVar(&cfg.File, "file", "bank-a.db", "the `file` with its accounts")
	flags.StringVar(&cfg.Group, "group", "", "be a node of the `group` whose accounts its nodes share (default a bank of its own)")
	flags.IntVar(&cfg.Partitions, "partitions", 0, "in how many partitions the group's accounts are shared (default 4096)")
	flags.DurationVar(&cfg.Remember, "remember", 0, "how long finished transactions are remembered after their expiry")
	return cmd
}

const bankReconnectWait = 25 * time.Millisecond
