// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// LocksReport is what RunLocks found.
type LocksReport struct {
	Raw    LocksRaw    `json:"raw"`
	Rows   []LocksRow  `json:"rows"`
	Ratios LocksRatios `json:"ratios"`
	// Rounds are the ratios of each round by itself: how much they differ tells how much noise there was.
	Rounds []LocksRatios `json:"rounds"`
	// Missed names the targets that were not reached; empty when all were.
	Missed []string `json:"missed"`
	// Errors are calls of Lock and Unlock that failed, in the warm-ups too. More than 0 is a fault of Assent.
	Errors int64 `json:"errors"`
	// FirstError is why the first of Errors failed.
	FirstError string        `json:"first_error,omitempty"`
	Machine    Machine       `json:"machine"`
	Settings   LocksSettings `json:"settings"`
}

// LocksRaw is the yardstick: publishes of single messages to JetStream streams that are set like a shard's log, each publisher on a
// connection of its own and waiting for the acknowledgement before its next one.
type LocksRaw struct {
	// PublishP50MS1 and PublishP99MS1 are latencies of one publisher alone, in milliseconds.
	PublishP50MS1 float64 `json:"publish_p50_ms_1"`
	PublishP99MS1 float64 `json:"publish_p99_ms_1"`
	// PublishPerS64 is publishes a second of 64 publishers on one stream.
	PublishPerS64 float64 `json:"publish_per_s_64"`
	// PublishPerS64x8 is publishes a second of 64 publishers spread over eight streams.
	PublishPerS64x8 float64 `json:"publish_per_s_64_8_streams"`
	// Samples are what the rounds found.
	Samples []LocksRawSample `json:"samples"`
}

// LocksRawSample is the yardstick in one round.
type LocksRawSample struct {
	PublishP50MS1   float64 `json:"publish_p50_ms_1"`
	PublishPerS64   float64 `json:"publish_per_s_64"`
	PublishPerS64x8 float64 `json:"publish_per_s_64_8_streams"`
}

// LocksRow is what a number of clients got in a mode. What does not apply is 0.
type LocksRow struct {
	// Mode is "uncontended" (each client has a key of its own), "contended" (all want one key) or "shared" (all want one key,
	// one of them exclusively). Nobody holds a lock for longer than it takes to write a token to memory.
	Mode    string `json:"mode"`
	Clients int    `json:"clients"`
	// PairsPerS is calls of Lock, each with that of Unlock, a second, when uncontended.
	PairsPerS float64 `json:"pairs_per_s"`
	// P50MS and P99MS are latencies from the call of Lock to the return of Unlock, in milliseconds; also waiting for the others.
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	// HandOffP50MS and HandOffP99MS are the times from the call of Unlock by one holder to the return of Lock at the
	// next, in milliseconds, when contended.
	HandOffP50MS float64 `json:"handoff_p50_ms"`
	HandOffP99MS float64 `json:"handoff_p99_ms"`
	// AcquisitionsPerS is how often a second the lock was taken by anyone, when contended or shared.
	AcquisitionsPerS float64 `json:"acquisitions_per_s"`
	// Jain is the fairness of the acquisitions by client: 1 when all have the same.
	Jain float64 `json:"jain"`
	// Violations are grants while someone else was inside, or without a greater token than those before. More than 0 is a fault of Assent.
	Violations int64 `json:"violations"`

	latencies, handOffs *hdrhistogram.Histogram // in nanoseconds; handOffs may be nil
}

// LocksRatios hold the rows against the yardstick. Those of a run are the medians of its rounds', in each of which a row and its
// yardstick are measured one right after the other: so a disk that stands still in one round spoils no more than that round.
type LocksRatios struct {
	// P50At1 is the median of Lock and Unlock of one client over that of one raw publish.
	P50At1 float64 `json:"uncontended_p50_at_1"`
	// PairsAt64 is pairs a second of 64 clients over half of the raw publishes a second of 64 publishers on eight streams.
	PairsAt64 float64 `json:"uncontended_pairs_at_64"`
	// HandOffP50 and HandOffP99 are of 16 contending clients, each over the median of one raw publish.
	HandOffP50 float64 `json:"handoff_p50_at_16"`
	HandOffP99 float64 `json:"handoff_p99_at_16"`
	// Jain is that of 16 contending clients over the whole run; 0 for a round.
	Jain float64 `json:"jain_at_16"`
	// Violations is the sum of all rows' over the whole run; 0 for a round.
	Violations int64 `json:"violations"`
}

// LocksSettings are those of the run.
type LocksSettings struct {
	DurationS float64 `json:"duration_s"`
	Rounds    int     `json:"rounds"`
	Replicas  int     `json:"replicas"`
	// Streams is 0 for the default of package locks.
	Streams int `json:"streams"`
	// Sync is "always" on the run's own server, and "unknown" on an existing one, which cannot be asked.
	Sync    string `json:"sync"`
	Payload int    `json:"payload"`
}

// report is what was found.
func (b *locksBench) report() *LocksReport {
	r := &LocksReport{Raw: b.rawReport(), Missed: []string{}, Machine: thisMachine(), Settings: LocksSettings{
		DurationS: b.cfg.Duration.Seconds(), Rounds: b.cfg.Rounds, Replicas: b.cfg.Replicas, Streams: b.cfg.Streams, Sync: "always", Payload: lockPayload,
	}}
	if b.cfg.Connect != nil {
		r.Settings.Sync = "unknown"
	}
	for _, m := range b.rows {
		r.Rows = append(r.Rows, m.row())
		r.Errors += m.errors
		if m.firstErr != nil && r.FirstError == "" {
			r.FirstError = m.step + ": " + m.firstErr.Error()
		}
	}
	for i := range b.cfg.Rounds {
		r.Rounds = append(r.Rounds, b.round(i))
	}
	r.compare()
	return r
}

// round gives the ratios of one round.
func (b *locksBench) round(i int) LocksRatios {
	raw, handOff := b.raw1.samples[i].p50, &b.contended16.samples[i]
	return LocksRatios{
		P50At1:     ratio(b.alone1.samples[i].p50, raw),
		PairsAt64:  ratio(b.alone64.samples[i].perSecond, b.raw64x8.samples[i].perSecond/2),
		HandOffP50: ratio(handOff.handOffP50, raw),
		HandOffP99: ratio(handOff.handOffP99, raw),
	}
}

func (b *locksBench) rawReport() LocksRaw {
	raw := LocksRaw{
		PublishP50MS1: b.raw1.quantile(50), PublishP99MS1: b.raw1.quantile(99),
		PublishPerS64: b.raw64.perSecond(), PublishPerS64x8: b.raw64x8.perSecond(),
	}
	for i := range b.raw1.samples {
		raw.Samples = append(raw.Samples, LocksRawSample{b.raw1.samples[i].p50, b.raw64.samples[i].perSecond, b.raw64x8.samples[i].perSecond})
	}
	return raw
}

func (m *lockMeasure) row() LocksRow {
	row := LocksRow{Mode: m.mode, Clients: m.clients, P50MS: m.quantile(50), P99MS: m.quantile(99), latencies: m.latencies}
	if m.register == nil {
		row.PairsPerS = m.perSecond()
		return row
	}
	row.AcquisitionsPerS = m.perSecond()
	row.Jain, row.Violations = jain(m.register.acquired), m.register.violations
	if m.mode == contended {
		row.handOffs = m.handOffs
		row.HandOffP50MS, row.HandOffP99MS = milliseconds(row.handOffs.ValueAtQuantile(50)), milliseconds(row.handOffs.ValueAtQuantile(99))
	}
	return row
}

// compare fills in the ratios and what was missed.
func (r *LocksReport) compare() {
	r.Ratios = LocksRatios{
		P50At1:     r.median(func(l *LocksRatios) float64 { return l.P50At1 }),
		PairsAt64:  r.median(func(l *LocksRatios) float64 { return l.PairsAt64 }),
		HandOffP50: r.median(func(l *LocksRatios) float64 { return l.HandOffP50 }),
		HandOffP99: r.median(func(l *LocksRatios) float64 { return l.HandOffP99 }),
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		r.Ratios.Violations += row.Violations
		if row.Mode == contended && row.Clients == 16 {
			r.Ratios.Jain = row.Jain
		}
	}
	r.Missed = r.missed()
}

// median is the median of the rounds.
func (r *LocksReport) median(of func(*LocksRatios) float64) float64 {
	values := make([]float64, len(r.Rounds))
	for i := range r.Rounds {
		values[i] = of(&r.Rounds[i])
	}
	return median(values)
}

// target is what a ratio should be at most, or at least.
type target struct {
	name        string
	value, want float64
	atLeast     bool
}

func (t target) met() bool {
	if t.atLeast {
		return t.value >= t.want
	}
	return t.value <= t.want
}

func (t target) String() string {
	bound := "at most"
	if t.atLeast {
		bound = "at least"
	}
	return fmt.Sprintf("%s: %.3g, want %s %.3g", t.name, t.value, bound, t.want)
}

// targets are those that apply: the ones of uncontended locks are about one replica.
func (r *LocksReport) targets() []target {
	var targets []target
	if r.Settings.Replicas == 1 {
		targets = []target{
			{name: "p50 of Lock and Unlock at 1 client, × that of a raw publish", value: r.Ratios.P50At1, want: 3.5},
			{name: "pairs/s at 64 clients, × half the raw publishes/s on eight streams", value: r.Ratios.PairsAt64, want: 0.8, atLeast: true},
		}
	}
	return append(targets,
		target{name: "hand-off p50 at 16 clients, × p50 of a raw publish", value: r.Ratios.HandOffP50, want: 3},
		target{name: "hand-off p99 at 16 clients, × p50 of a raw publish", value: r.Ratios.HandOffP99, want: 8},
		target{name: "Jain's index at 16 clients", value: r.Ratios.Jain, want: 0.99, atLeast: true},
		target{name: "violations of mutual exclusion", value: float64(r.Ratios.Violations), want: 0},
	)
}

func (r *LocksReport) missed() []string { return missed(r.targets()) }

func missed(targets []target) []string {
	missed := []string{}
	for _, t := range targets {
		if !t.met() {
			missed = append(missed, t.String())
		}
	}
	return missed
}

// Faults are how many things went wrong that never may.
func (r *LocksReport) Faults() int64 { return r.Errors + r.Ratios.Violations }

// TargetsMissed are those that were not reached, as in Missed.
func (r *LocksReport) TargetsMissed() []string { return r.Missed }
