// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent/internal/databases"
)

// storesDir is a folder that a database server, which may be run by another user, can reach; t.TempDir is not.
func storesDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "assent-test-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // see above
		t.Fatal(err)
	}
	return dir
}

func TestRunStores(t *testing.T) {
	for _, store := range AllStores {
		t.Run(store, func(t *testing.T) {
			cfg := StoresConfig{Dir: storesDir(t), Stores: []string{store}, Clients: []int{3}, Duration: 60 * time.Millisecond, Rounds: 2}
			var steps strings.Builder
			last := 0.0
			cfg.Progress = func(step string, done float64) {
				if done < last || done > 1 {
					t.Errorf("progress went from %v to %v at %q", last, done, step)
				}
				last = done
				steps.WriteString(step + "; ")
			}
			report, err := RunStores(t.Context(), cfg)
			if errors.Is(err, databases.ErrNotInstalled) && os.Getenv("ASSENT_DATABASES") != "required" {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if report.Faults() != 0 {
				t.Errorf("%d errors (%s), %d open, audits %q", report.Errors, report.FirstError, report.OpenAfter, report.Audits)
			}
			for _, want := range []string{"round 1 of 2: " + store + ", transfers, 3 clients", "round 2 of 2", "done; "} {
				if !strings.Contains(steps.String(), want) {
					t.Errorf("the steps have no %q: %s", want, steps.String())
				}
			}
			checkStoreRows(t, report)
		})
	}
}

func checkStoreRows(t *testing.T, report *StoresReport) {
	t.Helper()
	if len(report.Rows) == 0 || report.Rows[0].AtLeast == 0 {
		t.Fatalf("rows %+v; want one with a target first", report.Rows)
	}
	var table, plot bytes.Buffer
	if err := errors.Join(report.WriteTable(&table), report.WritePlot(&plot)); err != nil {
		t.Fatal(err)
	}
	for i := range report.Rows {
		row := &report.Rows[i]
		if row.TPS <= 0 || row.P50MS <= 0 || row.P99MS < row.P50MS || row.YardstickPerS <= 0 || row.YardstickP50MS <= 0 || row.Ratio <= 0 || len(row.Rounds) != 2 {
			t.Errorf("something was not measured: %+v", row)
		}
		for _, want := range []string{row.Work, row.Yardstick, strconv.FormatFloat(row.Ratio, 'f', 2, 64)} {
			if !strings.Contains(table.String(), want) {
				t.Errorf("the table has no %q:\n%s", want, table.String())
			}
		}
	}
	if !strings.HasPrefix(plot.String(), "<svg") {
		t.Errorf("no picture: %.100s", plot.String())
	}
}

// A run that is interrupted ends in order, and so does one whose NATS does not start.
func TestRunStoresIsInterrupted(t *testing.T) {
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cfg := StoresConfig{Dir: storesDir(t), Stores: []string{StoreBank}, Clients: []int{2}, Duration: time.Hour}
	cfg.Progress = func(step string, _ float64) {
		if strings.HasPrefix(step, "round 1") {
			cancel(interrupted)
		}
	}
	if report, err := RunStores(ctx, cfg); report != nil || !errors.Is(err, interrupted) {
		t.Errorf("got %v, %v", report, err)
	}
}

func TestStoresConfigIsChecked(t *testing.T) {
	good := StoresConfig{Dir: "data", Duration: time.Second}
	if _, err := good.withDefaults(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*StoresConfig){
		"dir":      func(cfg *StoresConfig) { cfg.Dir = "" },
		"store":    func(cfg *StoresConfig) { cfg.Stores = []string{"bank", "oracle"} },
		"once":     func(cfg *StoresConfig) { cfg.Stores = []string{"bank", "bank"} },
		"clients":  func(cfg *StoresConfig) { cfg.Clients = []int{1, 0} },
		"rounds":   func(cfg *StoresConfig) { cfg.Rounds = 1001 },
		"duration": func(cfg *StoresConfig) { cfg.Duration = time.Microsecond },
		"postgres": func(cfg *StoresConfig) { cfg.Postgres = []string{"postgres://localhost/one"} },
	} {
		cfg := good
		change(&cfg)
		if _, err := RunStores(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestStoresReportTellsFaults(t *testing.T) {
	r := newStoresReport(&StoresConfig{Rounds: 1})
	row := newStoreRow("transfers", "nothing", 2, 0.5)
	row.ours.rates, row.theirs.rates, row.ratios = []float64{4}, []float64{10}, []float64{0.4}
	row.ours.errors, row.ours.firstErr = 1, errors.New("lost")
	row.ours.tries.attempts.Store(5)
	row.ours.tries.commits.Store(4)
	row.theirs.tries.attempts.Store(7)
	row.theirs.tries.commits.Store(4)
	r.add("bank", &stored{rows: []*storeRow{row}}, sameSum(1, 2))
	r.OpenAfter = 4
	r.judge()
	if r.Faults() != 6 || len(r.Missed) != 1 {
		t.Errorf("%d faults, missed %q", r.Faults(), r.Missed)
	}
	if row := &r.Rows[0]; row.Conflicts != 0.25 || row.YardstickConflicts != 0.75 {
		t.Errorf("conflicts %v and %v, want 0.25 and 0.75", row.Conflicts, row.YardstickConflicts)
	}
	var table bytes.Buffer
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{" 0.250 ", " 0.750 ", "MISSED", "bank: the accounts have 1 in all, and had 2", "1 error, the first: bank, transfers, 2 clients: lost", "4 transactions were still open"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table does not say %q:\n%s", want, table.String())
		}
	}
}

// Keys are wanted as often as they should be.
func TestZipf(t *testing.T) {
	key := zipf(10, 0.9)
	counts := make(map[string]int)
	for range 20_000 {
		counts[key()]++
	}
	if len(counts) != 10 || counts["hot-0"] < 2*counts["hot-2"] || counts["hot-2"] < counts["hot-9"] {
		t.Errorf("how often each key was wanted: %v", counts)
	}
}
