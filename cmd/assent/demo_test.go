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
	var got map[string]float64 // every value is a number
	runDemo(t, &got, "--transfers", "300")
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

// TestDemoOfNodes holds what is told of nodes to what is documented.
func TestDemoOfNodes(t *testing.T) {
	var got struct {
		Submitted   int     `json:"submitted"`
		TotalBefore int     `json:"total_before"`
		TotalAfter  int     `json:"total_after"`
		Nodes       int     `json:"nodes"`
		Retried     *int    `json:"retried"`
		Tries       *int    `json:"tries"`
		Moved       int     `json:"partitions_moved"`
		Epochs      int     `json:"epochs"`
		Ratio       float64 `json:"during_ratio"`
		Longest     float64 `json:"longest_unavailable_ms"`
		Changes     []map[string]any
	}
	runDemo(t, &got, "--transfers", "300", "--nodes", "2", "--rebalance")
	if got.Submitted < 300 || got.TotalBefore != got.TotalAfter || got.TotalBefore <= 0 || got.Nodes != 2 {
		t.Errorf("%+v", got)
	}
	if got.Moved <= 0 || got.Epochs <= 0 || got.Ratio <= 0 || got.Longest <= 0 || got.Retried == nil || got.Tries == nil {
		t.Errorf("%+v", got)
	}
	if len(got.Changes) != 2 || got.Changes[0]["change"] != "accounts-3 added" || got.Changes[1]["change"] != "accounts-1 removed" {
		t.Fatalf("the changes are %v", got.Changes)
	}
	for _, c := range got.Changes {
		for _, field := range []string{
			"partitions_moved", "partitions", "epochs", "seconds", "tps_before", "tps_during", "tps_after", "during_ratio", "longest_unavailable_ms", "retried",
		} {
			if _, ok := c[field].(float64); !ok {
				t.Errorf("%s is %v", field, c[field])
			}
		}
		if len(c) != 11 {
			t.Errorf("%d fields of a change, want the 11 that are documented: %v", len(c), c)
		}
	}
}

// runDemo runs the program as a user does, and takes its one JSON object.
func runDemo(t *testing.T, into any, flags ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("it runs programs that it builds, in which the race detector would see nothing: -short was given")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	exe := filepath.Join(t.TempDir(), "assent")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, exe, append([]string{"demo", "--json"}, flags...)...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.Bytes(), errOut.Bytes())
	}
	decoder := json.NewDecoder(&out)
	if err := decoder.Decode(into); err != nil {
		t.Fatalf("%v in %s", err, out.Bytes())
	}
	if decoder.More() {
		t.Error("there is more than one object")
	}
}
