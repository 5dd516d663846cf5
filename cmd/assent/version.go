// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// versionReport is the JSON object of `assent version`.
type versionReport struct {
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	// Revision is the commit that it was built from, when the build knew it; Modified, whether files differed from it.
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
}

func newVersionCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    "Print the version of the program, of the protocol that it speaks, and what it was built from.",
		Example: "  assent version\n  assent version --json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if g.JSON {
				return g.printJSON(v)
			}
			fmt.Fprintf(g.out, "assent %s (protocol %d, %s", v.Version, v.Protocol, v.Go)
			if v.Revision != "" {
				fmt.Fprintf(g.out, ", %.12s", v.Revision)
			}
			if v.Modified {
				fmt.Fprint(g.out, ", modified")
			}
			fmt.Fprintln(g.out, ")")
			return nil
		},
	}
}

func readVersion() versionReport {
	v := versionReport{Version: coordinator.ServiceVersion, Protocol: messages.Version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
