// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// short is a run that takes a second or two. What it measures depends on the machine, so tests look at shapes and at
// what must hold on every machine.
func short(t *testing.T) Config {
	t.Helper()
	return Config{
		Dir: t.TempDir(), Concurrency: []int{1, 4}, Participants: 2, Payload: 256,
		Duration: 200 * time.Millisecond, Warmup: 20 * time.Millisecond,
	}
}

func measure(t *testing.T, cfg Config) *Report {
	t.Helper()
	report, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func TestRun(t *testing.T) {
	cfg := short(t)
	var steps []string
	last := 0.0
	cfg.Progress = func(step string, done float64) {
		if done < last || done > 1 {
			t.Errorf("progress went from %v to %v at %q", last, done, step)
		}
		last = done
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	report := measure(t, cfg)
	if report.Errors() != 0 || report.OpenAfter != 0 {
		t.Errorf("%d errors, %d open after the run; want none: %+v", report.Errors(), report.OpenAfter, report.Rows)
	}
	checkRaw(t, report)
	if len(report.Rows) != 2 || report.Rows[0].Concurrency != 1 || report.Rows[1].Concurrency != 4 {
		t.Fatalf("rows %+v; want those of 1 and of 4 clients", report.Rows)
	}
	for i := range report.Rows {
		checkRow(t, &report.Rows[i], report)
	}
	if want := report.Rows[0].P50MS / report.Rows[0].Raw.PublishP50MS1; report.Ratios.P50At1 != want {
		t.Errorf("p50 at 1 is %v of raw, want %v", report.Ratios.P50At1, want)
	}
	if got := strings.Join(steps, "; "); !strings.Contains(got, "1 client; raw, 64 publishers; raw, 1 publisher; 4 clients; raw, 64 publishers; raw, 1 publisher; done") {
		t.Errorf("steps: %s", got)
	}
	checkTable(t, report)
	checkJSON(t, report)
	checkPlot(t, report)
}

func checkRaw(t *testing.T, report *Report) {
	t.Helper()
	raw, mean := &report.Raw, RawSample{}
	if len(raw.Samples) != len(report.Rows)+1 {
		t.Fatalf("%d samples of the yardstick beside %d rows", len(raw.Samples), len(report.Rows))
	}
	for _, sample := range raw.Samples {
		if sample.PublishPerS64 <= 0 || sample.PublishP50MS1 <= 0 {
			t.Errorf("a sample of the yardstick is empty: %+v", sample)
		}
		mean.PublishPerS64 += sample.PublishPerS64 / float64(len(raw.Samples))
		mean.PublishP50MS1 += sample.PublishP50MS1 / float64(len(raw.Samples))
	}
	if raw.PublishPerS64 != mean.PublishPerS64 || raw.PublishP50MS1 != mean.PublishP50MS1 {
		t.Errorf("the yardstick is %+v, want the means %+v", raw, mean)
	}
	if raw.Connections != shared && raw.Connections != oneEach {
		t.Errorf("connections %q", raw.Connections)
	}
}

func checkRow(t *testing.T, row *Row, report *Report) {
	t.Helper()
	if row.TPS <= 0 || row.P50MS <= 0 || row.P95MS < row.P50MS || row.P99MS < row.P95MS {
		t.Errorf("%+v: want transactions, and latencies that grow with the percentile", row)
	}
	// Five records a transaction; alone, each of the prepares and votes has a message of its own.
	if row.RecordsPerMessage < 1 || row.RecordsPerMessage > 512 {
		t.Errorf("%d clients: %v records a message", row.Concurrency, row.RecordsPerMessage)
	}
	if cpuTime() > 0 && row.CPUMSPerTx <= 0 {
		t.Errorf("%d clients: no CPU time", row.Concurrency)
	}
	if want := row.TPS / row.Raw.PublishPerS64; report.Ratios.TPS[row.Concurrency] != want {
		t.Errorf("%d clients: %v of raw, want %v", row.Concurrency, report.Ratios.TPS[row.Concurrency], want)
	}
}

func checkTable(t *testing.T, report *Report) {
	t.Helper()
	var out bytes.Buffer
	if err := report.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 participants, payloads of 256 bytes", "records/message", "p50 at 1 client", "connections: " + report.Raw.Connections} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "still open") || strings.Contains(out.String(), "the first:") {
		t.Errorf("the table tells of faults that there are not:\n%s", out.String())
	}
}

func checkJSON(t *testing.T, report *Report) {
	t.Helper()
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Raw  map[string]any   `json:"raw"`
		Rows []map[string]any `json:"rows"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"publish_per_s_64", "publish_p50_ms_1", "connections"} {
		if got.Raw[key] == nil {
			t.Errorf("raw has no %s: %s", key, data)
		}
	}
	for _, key := range []string{"concurrency", "tps", "p50_ms", "p95_ms", "p99_ms", "errors", "records_per_message", "cpu_ms_per_tx"} {
		for _, row := range got.Rows {
			if row[key] == nil {
				t.Errorf("a row has no %s: %s", key, data)
			}
		}
	}
}

func checkPlot(t *testing.T, report *Report) {
	t.Helper()
	var out bytes.Buffer
	if err := report.WritePlot(&out); err != nil {
		t.Fatal(err)
	}
	decoder, lines := xml.NewDecoder(&out), 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if element, ok := token.(xml.StartElement); ok && element.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != len(report.Rows) {
		t.Errorf("the picture has %d lines, want %d", lines, len(report.Rows))
	}
}

// The other settings, and what is done with a transaction that fails.
func TestRunOtherwise(t *testing.T) {
	cfg := short(t)
	cfg.Concurrency, cfg.Participants, cfg.Payload = []int{2}, 3, 2
	cfg.Shards, cfg.Connection, cfg.Handler, cfg.Warmup, cfg.Duration = 2, TCP, Single, 0, 50*time.Millisecond
	report := measure(t, cfg)
	if report.Errors() != 0 || report.OpenAfter != 0 || report.Rows[0].TPS <= 0 {
		t.Errorf("%+v: want transactions and no errors", report)
	}
	if report.Ratios.P50At1 != 0 {
		t.Errorf("p50 at 1 client is %v without a row of 1 client", report.Ratios.P50At1)
	}
}

func TestLoopCountsErrors(t *testing.T) {
	fault := errors.New("no")
	calls := 0
	l := &loop{clients: 1, duration: 20 * time.Millisecond, do: func(context.Context, int) error {
		if calls++; calls%2 == 0 {
			return fault
		}
		return nil
	}}
	m, err := l.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m.succeeded+m.errors != int64(calls) || m.errors != int64(calls)/2 || !errors.Is(m.firstErr, fault) {
		t.Errorf("of %d calls %d succeeded and %d failed, first %v", calls, m.succeeded, m.errors, m.firstErr)
	}
	if m.latencies.TotalCount() > m.succeeded {
		t.Errorf("%d latencies of %d successes", m.latencies.TotalCount(), m.succeeded)
	}
}

func TestRunIsInterrupted(t *testing.T) {
	cfg := short(t)
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cfg.Progress = func(step string, _ float64) {
		if strings.HasPrefix(step, "raw") {
			cancel(cause)
		}
	}
	if report, err := Run(ctx, cfg); !errors.Is(err, cause) || report != nil {
		t.Errorf("got %v, %v; want the cause", report, err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"dir":          func(c *Config) { c.Dir = "" },
		"concurrency":  func(c *Config) { c.Concurrency = nil },
		"participants": func(c *Config) { c.Participants = 65 },
		"payload":      func(c *Config) { c.Payload = 1 },
		"duration":     func(c *Config) { c.Duration = 0 },
		"warmup":       func(c *Config) { c.Warmup = -1 },
		"shards":       func(c *Config) { c.Shards = 257 },
		"coordinator":  func(c *Config) { c.Connection = "pigeon" },
		"handler":      func(c *Config) { c.Handler = "none" },
	} {
		cfg := short(t)
		change(&cfg)
		if _, err := Run(t.Context(), cfg); err == nil || !strings.HasPrefix(err.Error(), "bench: "+field+": ") {
			t.Errorf("%s: got %v", field, err)
		}
	}
	for _, clients := range []int{0, maxClients + 1} {
		cfg := short(t)
		cfg.Concurrency = []int{1, clients}
		if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "concurrency") {
			t.Errorf("%d clients: got %v", clients, err)
		}
	}
}

func TestReportTellsFaults(t *testing.T) {
	report := newReport(&Config{})
	report.Rows = []Row{{Concurrency: 1, Errors: 3, FirstError: "it broke", latencies: newHistogram()}}
	report.Raw.Samples = make([]RawSample, 2)
	report.OpenAfter = 7
	report.compare()
	var out bytes.Buffer
	if err := report.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 errors, the first: it broke", "7 transactions were still open"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, out.String())
		}
	}
	if report.Ratios.TPS[1] != 0 {
		t.Errorf("a ratio to nothing is %v", report.Ratios.TPS[1])
	}
	if report.Errors() != 3 {
		t.Errorf("%d errors, want 3", report.Errors())
	}
}
