// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"runtime"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what a run found.
type Report struct {
	Raw      Raw      `json:"raw"`
	Rows     []Row    `json:"rows"`
	Ratios   Ratios   `json:"ratios"`
	Machine  Machine  `json:"machine"`
	Settings Settings `json:"settings"`
	// OpenAfter are the transactions that were not finished when the run ended, though they were given time. More than 0 is a
	// fault of Assent.
	OpenAfter int `json:"open_after"`
}

// Raw is the yardstick: publishes of single messages to a JetStream stream that is made like a shard's log, each publisher
// waiting for the acknowledgement before its next one. It is sampled before the rows, between them and after them.
type Raw struct {
	// PublishPerS64 and PublishP50MS1 are the means of the samples: publishes a second at 64 publishers, and the median
	// latency of one publisher alone in milliseconds.
	PublishPerS64 float64 `json:"publish_per_s_64"`
	PublishP50MS1 float64 `json:"publish_p50_ms_1"`
	// Connections says how the 64 publishers were connected, "shared" or "one each": whichever was faster in a short trial.
	Connections string `json:"connections"`
	// Samples are one more than there are rows: one before the first, and one after each.
	Samples []RawSample `json:"samples"`
}

// RawSample is the yardstick at one moment of the run.
type RawSample struct {
	PublishPerS64 float64 `json:"publish_per_s_64"`
	PublishP50MS1 float64 `json:"publish_p50_ms_1"`
}

// Row is what a number of clients got.
type Row struct {
	Concurrency int `json:"concurrency"`
	// TPS is how many transactions committed a second.
	TPS   float64 `json:"tps"`
	P50MS float64 `json:"p50_ms"`
	P95MS float64 `json:"p95_ms"`
	P99MS float64 `json:"p99_ms"`
	// Errors are transactions that did not commit or whose outcome was not learnt, in the warm-up too.
	Errors int64 `json:"errors"`
	// RecordsPerMessage is how many records the log's messages carried on average: prepares, votes and finished, over the whole
	// row. Each message is a sync to disk.
	RecordsPerMessage float64 `json:"records_per_message"`
	// CPUMSPerTx is the process's user and system time for each transaction; 0 where the system does not tell.
	CPUMSPerTx float64 `json:"cpu_ms_per_tx"`
	// Raw is the mean of the yardstick's samples just before and after the row.
	Raw RawSample `json:"raw"`
	// FirstError is why the first of Errors failed.
	FirstError string `json:"first_error,omitempty"`

	latencies *hdrhistogram.Histogram // in nanoseconds
}

// Ratios hold the rows against the yardstick, each against Row.Raw: what slows the machine for a while slows both.
type Ratios struct {
	// TPS is transactions a second over raw publishes a second at 64 publishers, by number of clients.
	TPS map[int]float64 `json:"tps"`
	// P50At1 is the median latency of one client over that of one raw publisher; absent without a row of one client.
	P50At1 float64 `json:"p50_at_1,omitempty"`
}

// Machine is what the figures were taken on.
type Machine struct {
	CPUs       int    `json:"cpus"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	Go         string `json:"go"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
}

// Settings are those of the run.
type Settings struct {
	Concurrency  []int      `json:"concurrency"`
	Participants int        `json:"participants"`
	Payload      int        `json:"payload"`
	DurationS    float64    `json:"duration_s"`
	WarmupS      float64    `json:"warmup_s"`
	Sync         string     `json:"sync"`
	Shards       int        `json:"shards"`
	Connection   Connection `json:"coordinator_connection"`
	Handler      Handler    `json:"handler"`
}

// Errors is the sum of the rows' errors.
func (r *Report) Errors() (sum int64) {
	for i := range r.Rows {
		sum += r.Rows[i].Errors
	}
	return sum
}

func newReport(cfg *Config) *Report {
	return &Report{
		Machine: thisMachine(),
		Settings: Settings{
			Concurrency: cfg.Concurrency, Participants: cfg.Participants, Payload: cfg.Payload,
			DurationS: cfg.Duration.Seconds(), WarmupS: cfg.Warmup.Seconds(), Sync: "always", Shards: cfg.Shards,
			Connection: cfg.Connection, Handler: cfg.Handler,
		},
	}
}

func thisMachine() Machine {
	return Machine{CPUs: runtime.NumCPU(), GOMAXPROCS: runtime.GOMAXPROCS(0), Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// compare fills in the means of the yardstick and the ratios to them.
func (r *Report) compare() {
	mean := meanOf(r.Raw.Samples)
	r.Raw.PublishPerS64, r.Raw.PublishP50MS1 = mean.PublishPerS64, mean.PublishP50MS1
	r.Ratios.TPS = make(map[int]float64, len(r.Rows))
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Raw = meanOf(r.Raw.Samples[i : i+2])
		r.Ratios.TPS[row.Concurrency] = ratio(row.TPS, row.Raw.PublishPerS64)
		if row.Concurrency == 1 {
			r.Ratios.P50At1 = ratio(row.P50MS, row.Raw.PublishP50MS1)
		}
	}
}

func meanOf(samples []RawSample) (mean RawSample) {
	for _, s := range samples {
		mean.PublishPerS64 += s.PublishPerS64 / float64(len(samples))
		mean.PublishP50MS1 += s.PublishP50MS1 / float64(len(samples))
	}
	return mean
}

// ratio is 0 when there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// Faults are how many things went wrong that never may.
func (r *Report) Faults() int64 { return r.Errors() + int64(r.OpenAfter) }

// TargetsMissed are none: nothing is asked of these figures.
func (r *Report) TargetsMissed() []string { return nil }
