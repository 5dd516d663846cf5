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

// assentBench runs `assent bench`, or its subcommand that comes first in args, and gives its exit code and output.
func assentBench(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"bench", "--dir", t.TempDir()}, args...), strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestBench(t *testing.T) {
	dir := t.TempDir()
	plot, cpu, mem := filepath.Join(dir, "latency.svg"), filepath.Join(dir, "cpu.out"), filepath.Join(dir, "mem.out")
	data := t.TempDir()
	code, out, errOut := assentBench(t, "--duration", "200ms", "--warmup", "20ms", "--concurrency", "1,4", "--json", "--dir", data,
		"--plot", plot, "--profile", cpu, "--memprofile", mem)
	if code != exitOK {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
	}
	var report bench.Report
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("standard output is not one JSON object: %v\n%s", err, out)
	}
	if report.Raw.PublishPerS64 <= 0 || len(report.Rows) != 2 || report.Ratios.TPS[4] <= 0 {
		t.Errorf("something was not measured: %s", out)
	}
	for _, row := range report.Rows {
		if row.Errors != 0 || row.TPS <= 0 {
			t.Errorf("%d clients: %d errors, %v tx/s", row.Concurrency, row.Errors, row.TPS)
		}
	}
	if !strings.Contains(errOut, "4 clients") {
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

func TestBenchTable(t *testing.T) {
	code, out, errOut := assentBench(t, "--duration", "50ms", "--warmup", "0s", "--concurrency", "2", "--participants", "1", "--handler", "single", "--coordinator", "tcp")
	if code != exitOK || !strings.Contains(out, "records/message") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errOut)
	}
}

func TestBenchRefusesBadFlags(t *testing.T) {
	for _, args := range []string{
		"--concurrency=0", "--concurrency=x", "--participants=65", "--payload=1", "--payload=200000", "--duration=0s", "--warmup=-1s", "--coordinator=pigeon",
		"--handler=none",
	} {
		code, out, errOut := assentBench(t, args)
		flag, _, _ := strings.Cut(args, "=")
		if code != exitUsage || !strings.Contains(errOut, flag) || out != "" {
			t.Errorf("%s: exit code %d\n%s\n%s", args, code, out, errOut)
		}
	}
}
