// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestDemo runs the program as a user does, with its faults, and holds its one JSON object to what it promises.
func TestDemo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	exe := filepath.Join(t.TempDir(), "assent")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, "demo", "--transfers", "300", "--json")
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.Bytes(), errOut.Bytes())
	}
	var got map[string]float64 // every value is a number
	decoder := json.NewDecoder(&out)
	if err := decoder.Decode(&got); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	if decoder.More() {
		t.Error("there is more than one object")
	}
	if got["submitted"] != 300 || got["committed"]+got["aborted"] != 300 || got["committed"] == 0 || got["aborted"] == 0 {
		t.Errorf("of 300 transfers %v were submitted, %v committed, %v aborted", got["submitted"], got["committed"], got["aborted"])
	}
	if got["total_before"] != got["total_after"] || got["total_before"] <= 0 {
		t.Errorf("the total was %v and is %v", got["total_before"], got["total_after"])
	}
	if got["kills"] != 3 || got["recovery_ms"] <= 0 || got["seconds"] <= 0 || got["tps"] <= 0 {
		t.Errorf("%v kills, recovery in %v ms, %v a second for %v s", got["kills"], got["recovery_ms"], got["tps"], got["seconds"])
	}
	for _, key := range []string{"unresolved", "in_doubt"} {
		if n, ok := got[key]; n != 0 || !ok {
			t.Errorf("%s is %v (there: %v), want 0", key, n, ok)
		}
	}
	if len(got) != 11 {
		t.Errorf("%d fields, want the 11 that are documented: %v", len(got), got)
	}
}
