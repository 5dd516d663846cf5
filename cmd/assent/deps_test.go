// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// An application that uses the SDK must not pull in the server.
func TestTheSDKDoesNotDependOnTheServer(t *testing.T) {
	const module = "github.com/assent-tx/assent"
	for _, pkg := range []string{module, module + "/participant", module + "/messages"} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list -deps %s: %v\n%s", pkg, err, out)
		}
		deps := string(out)
		if !strings.Contains(deps, module) || !strings.Contains(deps, "encoding/json\n") {
			t.Fatalf("go list -deps %s lists something else: %s", pkg, deps)
		}
		for dep := range strings.Lines(deps) {
			if strings.HasPrefix(dep, "github.com/nats-io/nats-server") || strings.HasPrefix(dep, module+"/embedded") {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}
