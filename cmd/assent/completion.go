// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"

	"github.com/spf13/cobra"
)

// completionReport is the JSON object of `assent completion`.
type completionReport struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func newCompletionCommand(g *globals) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands in a shell",
		Long:  "Print a script that completes assent's commands and flags in a shell.",
		Example: `  source <(assent completion bash)                              # in this shell
  assent completion zsh > "${fpath[1]}/_assent"                 # in every new one
  assent completion fish > ~/.config/fish/completions/assent.fish
  assent completion powershell | Out-String | Invoke-Expression`,
		ValidArgs: shells,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !g.JSON {
				return writeCompletion(cmd.Root(), args[0], g.out)
			}
			var script bytes.Buffer
			if err := writeCompletion(cmd.Root(), args[0], &script); err != nil {
				return err
			}
			return g.printJSON(completionReport{args[0], script.String()})
		},
	}
}

func writeCompletion(root *cobra.Command, shell string, out io.Writer) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(out, true)
	case "zsh":
		return root.GenZshCompletion(out)
	case "fish":
		return root.GenFishCompletion(out, true)
	default:
		return root.GenPowerShellCompletionWithDesc(out)
	}
}
