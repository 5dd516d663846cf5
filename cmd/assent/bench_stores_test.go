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

func TestBenchStores(t *testing.T) {
	data, plot := t.TempDir(), filepath.Join(t.TempDir(), "latency.svg")
	code, out, errOut := assentBench(t, "stores", "--store", "bank,kv", "--dir", data, "--duration", "40ms", "--rounds", "2", "--clients", "2", "--json", "--plot", plot)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
	}
	var report bench.StoresReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, out)
	}
	if len(report.Rows) != 4 || report.Rows[0].Store != bench.StoreBank || report.Rows[2].Store != bench.StoreKV || report.Rows[2].TPS <= 0 {
		t.Errorf("something was not measured: %s", out)
	}
	if row := &report.Rows[3]; !strings.HasSuffix(row.Work, ", no-wait") || row.Yardstick != "the same, waiting" || row.TPS <= 0 || row.YardstickPerS <= 0 {
		t.Errorf("no-wait was not measured: %s", out)
	}
	if !strings.Contains(errOut, "round 2 of 2: kv") {
		t.Errorf("standard error does not tell of the progress: %s", errOut)
	}
	if info, err := os.Stat(plot); err != nil || info.Size() == 0 {
		t.Errorf("%s: %v: want content", plot, err)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("the servers' data is still there: %v, %v", left, err)
	}
}

func TestBenchStoresTellsWhatFailed(t *testing.T) {
	missed := bench.StoresReport{Missed: []string{"bank"}}
	for name, test := range map[string]struct {
		report bench.StoresReport
		check  bool
		code   int
	}{
		"all is well":         {bench.StoresReport{}, true, exitOK},
		"a target is missed":  {missed, false, exitOK},
		"and that is checked": {missed, true, exitFailure},
		"an error":            {bench.StoresReport{Errors: 1}, false, exitFailure},
		"one stayed open":     {bench.StoresReport{OpenAfter: 1}, false, exitFailure},
		"money is gone":       {bench.StoresReport{Audits: []string{"bank"}}, false, exitFailure},
	} {
		var out bytes.Buffer
		g := &globals{out: &out, errOut: &out}
		if code := exitCode(g.tell(&test.report, &benchOptions{check: test.check})); code != test.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, test.code, out.String())
		}
	}
}

func TestBenchStoresRefusesBadFlags(t *testing.T) {
	for _, args := range []string{"--duration=1us", "--rounds=1001", "--clients=0", "--store=oracle", "--postgres=postgres://localhost/one", "--concurrency=1"} {
		code, out, errOut := assentBench(t, "stores", args)
		flag, _, _ := strings.Cut(args, "=")
		if code != exitUsage || !strings.Contains(errOut, flag) || out != "" {
			t.Errorf("%s: exit code %d\n%s\n%s", args, code, out, errOut)
		}
	}
}
