// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/bench"
)

func TestBenchLocks(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	plot, cpu, mem := filepath.Join(dir, "latency.svg"), filepath.Join(dir, "cpu.out"), filepath.Join(dir, "mem.out")
	code, out, errOut := assentBench(t, "locks", "--dir", data, "--duration", "80ms", "--rounds", "2", "--json",
		"--plot", plot, "--profile", cpu, "--memprofile", mem)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
	}
	var report bench.LocksReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, out)
	}
	if len(report.Rows) != 6 || report.Ratios.P50At1 <= 0 || report.Ratios.PairsAt64 <= 0 || report.Ratios.HandOffP50 <= 0 || report.Settings.Sync != "always" {
		t.Errorf("something was not measured: %s", out)
	}
	if !strings.Contains(errOut, "round 2 of 2") {
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

// On an existing NATS it leaves nothing behind.
func TestBenchLocksOnAnExistingNATS(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	code, out, errOut := assentBench(t, "locks", "--server", server.URL(), "--duration", "10ms", "--rounds", "1", "--streams", "2")
	if code != exitOK || !strings.Contains(out, "sync unknown") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	names := js.StreamNames(t.Context())
	for name := range names.Name() {
		t.Errorf("stream %s is left", name)
	}
	if names.Err() != nil {
		t.Error(names.Err())
	}
}

func TestBenchLocksTellsWhatFailed(t *testing.T) {
	for name, test := range map[string]struct {
		report bench.LocksReport
		check  bool
		code   int
	}{
		"all is well":         {bench.LocksReport{}, true, exitOK},
		"a target is missed":  {bench.LocksReport{Missed: []string{"p50"}}, false, exitOK},
		"and that is checked": {bench.LocksReport{Missed: []string{"p50"}}, true, exitFailure},
		"an error":            {bench.LocksReport{Errors: 1}, false, exitFailure},
		"a violation":         {bench.LocksReport{Ratios: bench.LocksRatios{Violations: 1}}, false, exitFailure},
	} {
		var out bytes.Buffer
		g := &globals{out: &out, errOut: &out}
		if code := exitCode(g.tell(&test.report, &benchOptions{check: test.check})); code != test.code {
			t.Errorf("%s: exit code %d, want %d\n%s", name, code, test.code, out.String())
		}
	}
}

func TestBenchLocksRefusesBadFlags(t *testing.T) {
	for _, args := range []string{"--duration=1us", "--rounds=1001", "--replicas=3", "--replicas=2", "--streams=65", "--concurrency=1"} {
		code, out, errOut := assentBench(t, "locks", args)
		flag, _, _ := strings.Cut(args, "=")
		if code != exitUsage || !strings.Contains(errOut, flag) || out != "" {
			t.Errorf("%s: exit code %d\n%s\n%s", args, code, out, errOut)
		}
	}
}
