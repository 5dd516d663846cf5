// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// RingReport is what RunRing found.
type RingReport struct {
	Rows    []RingRow   `json:"rows"`
	Route   RingRoute   `json:"route"`
	Changes RingChanges `json:"changes"`
	Missed  []string    `json:"missed"` // names the targets that were not reached; empty when all were
	// Errors are requests that failed, in the warm-ups too. More than 0 is a fault of Assent.
	Errors int64 `json:"errors"`
	// FirstError is why the first of Errors failed.
	FirstError string       `json:"first_error,omitempty"`
	Machine    Machine      `json:"machine"`
	Settings   RingSettings `json:"settings"`
}

// RingRow is a ring of so many nodes of one weight.
type RingRow struct {
	Nodes      int `json:"nodes"`
	Partitions int `json:"partitions"`
	// LookupNS is the time from a key to its owner in nanoseconds, and MaglevNS that of the yardstick: the hash of the key, and one index
	// into a table of 65,537. Both are medians of the rounds, and so is LookupRatio, of the rounds' ratios.
	LookupNS    float64 `json:"lookup_ns"`
	MaglevNS    float64 `json:"maglev_ns"`
	LookupRatio float64 `json:"lookup_ratio"`
	// Allocations is how many one lookup makes.
	Allocations float64 `json:"lookup_allocations"`
	// CirclePeak is the largest part of the circle that a node owns over the average: what Peak would be of all keys that there could be.
	CirclePeak float64 `json:"circle_peak"`
	// Peak is the most keys of a node over the average, and JumpPeak the same of jump hash with the same keys: what of it is chance. Both
	// are medians of the rounds, each of which has other keys.
	Peak     float64 `json:"peak"`
	JumpPeak float64 `json:"jump_peak"`
	// Joined and Left is how many nodes came, and went, one after the other.
	Joined int `json:"joined"`
	Left   int `json:"left"`
	// JoinMoved and LeaveMoved are the keys that moved then over the least that had to.
	JoinMoved  float64 `json:"join_moved"`
	LeaveMoved float64 `json:"leave_moved"`
	// Stray is how many keys moved between nodes that neither came nor went. More than 0 is a fault of Assent.
	Stray int `json:"stray"`
	// NewMS is the processor's time to make the ring, the shortest of the run's. NextMS is the time to make the next one when a node came or
	// went, the median.
	NewMS  float64 `json:"new_ms"`
	NextMS float64 `json:"next_ms"`
}

// RingRoute is about requests to the routing service, one after the other on one connection. Latencies are those of one key.
type RingRoute struct {
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	EchoP50MS float64 `json:"echo_p50_ms"` // the yardstick: the same bytes, sent back by a subscriber
	EchoP99MS float64 `json:"echo_p99_ms"`
	// Ratio is the median of the rounds' ratios of the two medians.
	Ratio float64 `json:"p50_ratio"`
	// Rounds are those ratios: how much they differ tells how much noise there was.
	Rounds []float64 `json:"rounds"`
	// KeysPerS is how many keys a second one client gets routed that asks for BatchKeys at once; the median of the rounds.
	KeysPerS  float64 `json:"keys_per_s"`
	BatchKeys int     `json:"batch_keys"`

	latencies, yardstick *hdrhistogram.Histogram // in nanoseconds
}

// RingChanges is about how soon clients know of a change, from the moment in which it is asked for.
type RingChanges struct {
	Changes   int `json:"changes"`
	Followers int `json:"followers"`
	// P50MS is the median of all followers and changes.
	P50MS float64 `json:"p50_ms"`
	// LastP50MS is the median of the changes of when the last follower knew, and LastMaxMS the longest that it ever took.
	LastP50MS float64 `json:"last_p50_ms"`
	LastMaxMS float64 `json:"last_max_ms"`

	latencies *hdrhistogram.Histogram // in nanoseconds
}

// RingSettings are those of the run.
type RingSettings struct {
	DurationS float64 `json:"duration_s"`
	Rounds    int     `json:"rounds"`
	Keys      int     `json:"keys"`
	Followers int     `json:"followers"`
	// Changes is how many there are in a round.
	Changes int `json:"changes"`
}

// report is what was found.
func (b *ringBench) report() *RingReport {
	r := &RingReport{
		Route: b.route(), Changes: b.changes(), Machine: thisMachine(), Errors: b.pair.errors + b.batch.errors,
		Settings: RingSettings{b.cfg.Duration.Seconds(), b.cfg.Rounds, b.cfg.Keys, b.cfg.Followers, b.cfg.Changes},
	}
	for _, row := range b.rows {
		r.Rows = append(r.Rows, row.report())
	}
	if b.pair.firstErr != nil {
		r.FirstError = "with one key: " + b.pair.firstErr.Error()
	} else if b.batch.firstErr != nil {
		r.FirstError = "with many keys: " + b.batch.firstErr.Error()
	}
	r.Missed = missed(r.targets())
	return r
}

func (r *ringRow) report() RingRow {
	row := RingRow{
		Nodes: r.nodes, Partitions: r.partitions, CirclePeak: r.ring.Balance().Peak, Peak: median(r.peaks), JumpPeak: median(r.jumpPeaks), Joined: r.movements(), Left: r.movements(),
		JoinMoved: r.join.ratio(), LeaveMoved: r.leave.ratio(), Stray: r.join.stray + r.leave.stray, NewMS: slices.Min(r.built), NextMS: median(r.next),
	}
	row.LookupNS = r.lookupMedian(func(s lookupSample) float64 { return s.ns })
	row.MaglevNS = r.lookupMedian(func(s lookupSample) float64 { return s.yardstickNS })
	row.LookupRatio = r.lookupMedian(func(s lookupSample) float64 { return ratio(s.ns, s.yardstickNS) })
	row.Allocations = r.lookupMedian(func(s lookupSample) float64 { return s.allocations })
	return row
}

func (r *ringRow) lookupMedian(of func(lookupSample) float64) float64 {
	values := make([]float64, len(r.lookup))
	for i, sample := range r.lookup {
		values[i] = of(sample)
	}
	return median(values)
}

func (b *ringBench) route() RingRoute {
	p := b.pair
	return RingRoute{
		P50MS: milliseconds(p.latencies.ValueAtQuantile(50)), P99MS: milliseconds(p.latencies.ValueAtQuantile(99)),
		EchoP50MS: milliseconds(p.yardstick.ValueAtQuantile(50)), EchoP99MS: milliseconds(p.yardstick.ValueAtQuantile(99)),
		Ratio: median(p.ratios()), Rounds: p.ratios(), KeysPerS: median(b.batch.samples), BatchKeys: batchKeys,
		latencies: p.latencies, yardstick: p.yardstick,
	}
}

func (b *ringBench) changes() RingChanges {
	s := b.spread
	return RingChanges{
		Changes: s.changes, Followers: b.cfg.Followers, P50MS: milliseconds(s.latencies.ValueAtQuantile(50)),
		LastP50MS: median(s.last), LastMaxMS: slices.Max(s.last), latencies: s.latencies,
	}
}

// peaks are the bounds of a RingRow's Peak by its number of nodes: the more nodes, the fewer keys has each.
var peaks = map[int]float64{10: 1.02, 100: 1.04, 1000: 1.10}

// peakTarget is the bound of Peak. With a thousand keys for each node chance alone makes about 1.10, the most of a thousand draws that
// scatter by a thirtieth. Jump hash, with the same keys, says how much it made of these: a tenth more than that is always allowed.
func (row *RingRow) peakTarget() float64 {
	return max(peaks[row.Nodes], 1+1.1*(row.JumpPeak-1))
}

// targets are what should be reached.
func (r *RingReport) targets() []target {
	var targets []target
	for i := range r.Rows {
		row := &r.Rows[i]
		of := func(what string) string { return fmt.Sprintf("%d nodes: %s", row.Nodes, what) }
		targets = append(targets,
			target{name: of("lookup, × the hash and one index"), value: row.LookupRatio, want: 1.5},
			target{name: of("allocations of a lookup"), value: row.Allocations, want: 0},
			target{name: of("most keys of a node, × the average"), value: row.Peak, want: row.peakTarget()},
			target{name: of("keys moved when nodes join, × the least"), value: row.JoinMoved, want: 1.03},
			target{name: of("keys moved when nodes leave, × the least"), value: row.LeaveMoved, want: 1.03},
			target{name: of("keys moved between other nodes"), value: float64(row.Stray), want: 0},
			target{name: of("ms to make the ring"), value: row.NewMS, want: 50},
		)
	}
	return append(targets,
		target{name: "p50 of a request with one key, × that of a bare request", value: r.Route.Ratio, want: 1.3},
		target{name: "thousand keys/s in requests with many", value: r.Route.KeysPerS / 1000, want: 100, atLeast: true},
		target{name: fmt.Sprintf("s until the last of %s knows a change", count(r.Changes.Followers, "follower")), value: r.Changes.LastMaxMS / 1000, want: 1},
	)
}

// Faults is how much there is that no noise explains: requests that failed, and keys that had no reason to move.
func (r *RingReport) Faults() (sum int64) {
	for i := range r.Rows {
		sum += int64(r.Rows[i].Stray)
	}
	return sum + r.Errors
}

// TargetsMissed are those that were not reached, as in Missed.
func (r *RingReport) TargetsMissed() []string { return r.Missed }
