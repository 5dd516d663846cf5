// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// An application that uses the SDK must not pull in the server, nor the drivers of stores that it does not use.
func TestTheSDKDoesNotDependOnTheServer(t *testing.T) {
	const module = "github.com/assent-tx/assent"
	for _, pkg := range []string{module, module + "/participant", module + "/participant/sqlstore", module + "/messages"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list -deps %s: %v\n%s", pkg, err, out)
		}
		deps := string(out)
		if !strings.Contains(deps, module) || !strings.Contains(deps, "encoding/json\n") {
			t.Fatalf("go list -deps %s lists something else: %s", pkg, deps)
		}
		for dep := range strings.Lines(deps) {
			for _, unwanted := range []string{"github.com/nats-io/nats-server", module + "/embedded", "github.com/jackc/pgx", "github.com/go-sql-driver/mysql", "modernc.org/sqlite"} {
				if strings.HasPrefix(dep, unwanted) {
					t.Errorf("%s depends on %s", pkg, dep)
				}
			}
		}
	}
}
