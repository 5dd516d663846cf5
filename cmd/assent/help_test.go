// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands are all that people see.
func commands(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, child := range cmd.Commands() {
		if !child.Hidden && child.Name() != "help" {
			all = append(all, commands(child)...)
		}
	}
	return all
}

func TestEveryCommandHasHelp(t *testing.T) {
	started := false
	for _, cmd := range commands(newRootCommand(&globals{}, &started)) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s lacks a Short, Long or Example", cmd.CommandPath())
		}
	}
}

func TestEveryCommandAndFlagIsInTheManual(t *testing.T) {
	manual, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	started := false
	for _, cmd := range commands(newRootCommand(&globals{}, &started)) {
		if !strings.Contains(string(manual), cmd.CommandPath()) {
			t.Errorf("docs/cli.md lacks %s", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(string(manual), "--"+f.Name) {
				t.Errorf("docs/cli.md lacks --%s of %s", f.Name, cmd.CommandPath())
			}
		})
	}
}

// What is printed for people is also what programs read: every command takes --json.
func TestJSONIsAFlagOfAll(t *testing.T) {
	started := false
	for _, cmd := range commands(newRootCommand(&globals{}, &started)) {
		if cmd.Flag("json") == nil && cmd.InheritedFlags().Lookup("json") == nil {
			t.Errorf("%s does not take --json", cmd.CommandPath())
		}
	}
}
