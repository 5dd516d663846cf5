// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assent-tx/assent/internal/bench"
)

func TestBenchRing(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	plot, cpu, mem := filepath.Join(dir, "latency.svg"), filepath.Join(dir, "cpu.out"), filepath.Join(dir, "mem.out")
	code, out, errOut := assentBench(t, "ring", "--dir", data, "--duration", "40ms", "--rounds", "2", "--keys", "10000", "--followers", "2", "--changes", "1", "--json",
		"--plot", plot, "--profile", cpu, "--memprofile", mem)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
	}
	var report bench.RingReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, out)
	}
	if len(report.Rows) != 3 || report.Rows[2].LookupRatio <= 0 || report.Route.Ratio <= 0 || report.Route.KeysPerS <= 0 || report.Changes.LastMaxMS <= 0 || report.Settings.Keys != 10_000 {
		t.Errorf("something was not measured: %s", out)
	}
	if !strings.Contains(errOut, "round 2 of 2: requests with one key") {
		t.Errorf("standard error does not tell of the progress: %s", errOut)
	}
	for _, file := range []string{plot, cpu, mem} {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v: want content", file, err)
		}
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("the server's data is still there: %v, %v", left, err)
	}
}

func TestBenchRingTellsWhatFailed(t *testing.T) {
	missed := bench.RingReport{Missed: []string{"p50"}}
	for name, test := range map[string]struct {
		report bench.RingReport
		check  bool
		code   int
	}{
		"all is well":         {bench.RingReport{}, true, exitOK},
		"a target is missed":  {missed, false, exitOK},
		"and that is checked": {missed, true, exitFailure},
		"an error":            {bench.RingReport{Errors: 1}, false, exitFailure},
		"a stray key":         {bench.RingReport{Rows: []bench.RingRow{{Stray: 1}}}, false, exitFailure},
	} {
		var out bytes.Buffer
		g := &globals{out: &out, errOut: &out}
		if code := exitCode(g.tell(&test.report, &benchOptions{check: test.check})); code != test.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, test.code, out.String())
		}
	}
}

func TestBenchRingRefusesBadFlags(t *testing.T) {
	for _, args := range []string{"--duration=1us", "--rounds=1001", "--keys=1", "--keys=x", "--followers=1001", "--changes=-1", "--concurrency=1"} {
		code, out, errOut := assentBench(t, "ring", args)
		flag, _, _ := strings.Cut(args, "=")
		if code != exitUsage || !strings.Contains(errOut, flag) || out != "" {
			t.Errorf("%s: exit code %d\n%s\n%s", args, code, out, errOut)
		}
	}
}
