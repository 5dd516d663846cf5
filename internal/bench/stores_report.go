// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// StoresReport is what RunStores found.
type StoresReport struct {
	Rows []StoresRow `json:"rows"`
	// Missed names the targets that were not reached; empty when all were.
	Missed []string `json:"missed"`
	// Audits are what was found wrong with the stores' contents at the end. More than none is a fault of Assent.
	Audits []string `json:"audits"`
	// Errors are transactions that did not commit or whose outcome was not learnt, in the warm-ups too.
	Errors int64 `json:"errors"`
	// FirstError is why the first of Errors failed.
	FirstError string `json:"first_error,omitempty"`
	// OpenAfter are the transactions that were not finished when the run ended, though they were given time. More than 0 is a fault of Assent.
	OpenAfter int            `json:"open_after"`
	Machine   Machine        `json:"machine"`
	Settings  StoresSettings `json:"settings"`
}

// StoresRow is what a number of clients got of a store, and of its yardstick.
type StoresRow struct {
	Store   string `json:"store"`
	Work    string `json:"work"`
	Clients int    `json:"clients"`
	// TPS is how many transactions committed a second, the median of the rounds; latencies are of all.
	TPS   float64 `json:"tps"`
	P50MS float64 `json:"p50_ms"`
	P99MS float64 `json:"p99_ms"`
	// CPUMS is the process's user and system time for each transaction, without that of a database server; 0 where the system does not tell.
	CPUMS float64 `json:"cpu_ms"`
	// Conflicts is how many attempts met another transaction and were made again, for each transaction: with it, it was tried Conflicts + 1 times.
	Conflicts float64 `json:"conflicts"`
	// Yardstick is what it is held against, in the same figures.
	Yardstick      string  `json:"yardstick"`
	YardstickPerS  float64 `json:"yardstick_per_s"`
	YardstickP50MS float64 `json:"yardstick_p50_ms"`
	YardstickP99MS float64 `json:"yardstick_p99_ms"`
	YardstickCPUMS float64 `json:"yardstick_cpu_ms"`
	// YardstickConflicts is 0 where nothing can conflict.
	YardstickConflicts float64 `json:"yardstick_conflicts"`
	// Ratio is TPS over that of the yardstick: the median of the rounds', which are in Rounds. AtLeast is its target, 0 for none.
	Ratio   float64   `json:"ratio"`
	Rounds  []float64 `json:"rounds"`
	AtLeast float64   `json:"at_least,omitempty"`

	latencies, yardstick *hdrhistogram.Histogram // in nanoseconds
}

// StoresSettings are those of the run.
type StoresSettings struct {
	Stores    []string `json:"stores"`
	DurationS float64  `json:"duration_s"`
	Rounds    int      `json:"rounds"`
	Sync      string   `json:"sync"`
}

func newStoresReport(cfg *StoresConfig) *StoresReport {
	return &StoresReport{
		Rows: []StoresRow{}, Missed: []string{}, Audits: []string{}, Machine: thisMachine(),
		Settings: StoresSettings{Stores: cfg.Stores, DurationS: cfg.Duration.Seconds(), Rounds: cfg.Rounds, Sync: "always"},
	}
}

// add takes what was found of a store, and what its audit says.
func (r *StoresReport) add(store string, s *stored, audit error) {
	for _, row := range s.rows {
		ours, theirs := &row.ours, &row.theirs
		r.Rows = append(r.Rows, StoresRow{
			Store: store, Work: row.work, Clients: row.clients, Yardstick: row.yardstick,
			TPS: median(ours.rates), P50MS: quantileMS(ours.latencies, 50), P99MS: quantileMS(ours.latencies, 99),
			YardstickPerS: median(theirs.rates), YardstickP50MS: quantileMS(theirs.latencies, 50), YardstickP99MS: quantileMS(theirs.latencies, 99),
			CPUMS: ours.cpuMS(), YardstickCPUMS: theirs.cpuMS(),
			Conflicts: ours.tries.conflicts(), YardstickConflicts: theirs.tries.conflicts(),
			Ratio: median(row.ratios), Rounds: row.ratios, AtLeast: row.atLeast, latencies: ours.latencies, yardstick: theirs.latencies,
		})
		for _, who := range []*contender{ours, theirs} {
			r.Errors += who.errors
			if who.firstErr != nil && r.FirstError == "" {
				r.FirstError = fmt.Sprintf("%s, %s, %s: %v", store, row.work, count(row.clients, "client"), who.firstErr)
			}
		}
	}
	if audit != nil {
		r.Audits = append(r.Audits, store+": "+audit.Error())
	}
}

func quantileMS(h *hdrhistogram.Histogram, percent float64) float64 {
	return milliseconds(h.ValueAtQuantile(percent))
}

// judge fills in what was missed.
func (r *StoresReport) judge() {
	for _, t := range r.targets() {
		if !t.met() {
			r.Missed = append(r.Missed, t.name)
		}
	}
}

func (r *StoresReport) targets() (targets []target) {
	for i := range r.Rows {
		if row := &r.Rows[i]; row.AtLeast > 0 {
			name := fmt.Sprintf("%s, %s: over %s", row.Store, count(row.Clients, "client"), row.Yardstick)
			targets = append(targets, target{name, row.Ratio, row.AtLeast, true})
		}
	}
	return targets
}

// Faults are how many things went wrong that never may.
func (r *StoresReport) Faults() int64 { return r.Errors + int64(r.OpenAfter) + int64(len(r.Audits)) }

// WriteTable prints the report for people.
func (r *StoresReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "stores, sync %s, %s of %.3g s each in all, %d CPUs, %s %s/%s\n\n", r.Settings.Sync, count(r.Settings.Rounds, "round"),
		r.Settings.DurationS, r.Machine.CPUs, r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "store\twork\tclients\ttx/s\tp50 ms\tp99 ms\tCPU ms\tconflicts/tx\tbeside\t/s\tp50 ms\tp99 ms\tCPU ms\tconflicts/tx\tratio\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(table, "%s\t%s\t%d\t%.0f\t%.2f\t%.2f\t%.3f\t%s\t%s\t%.0f\t%.2f\t%.2f\t%.3f\t%s\t%.2f\t\n", row.Store, row.Work, row.Clients, row.TPS, row.P50MS, row.P99MS,
			row.CPUMS, cell("%.3f", row.Conflicts), row.Yardstick, row.YardstickPerS, row.YardstickP50MS, row.YardstickP99MS, row.YardstickCPUMS,
			cell("%.3f", row.YardstickConflicts), row.Ratio)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nratios: medians of the %s, in each of which a row and its yardstick are measured one after the other\n", count(r.Settings.Rounds, "round"))
	writeTargets(&b, r.targets())
	for _, audit := range r.Audits {
		fmt.Fprintf(&b, "%s\n", audit)
	}
	if r.Errors > 0 {
		fmt.Fprintf(&b, "%s, the first: %s\n", count(int(r.Errors), "error"), r.FirstError)
	}
	if r.OpenAfter > 0 {
		fmt.Fprintf(&b, "%d transactions were still open %v after the end\n", r.OpenAfter, patience)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WritePlot draws each row's latencies and its yardstick's by percentile, as an SVG.
func (r *StoresReport) WritePlot(w io.Writer) error {
	var lines []plotLine
	for i := range r.Rows {
		row := &r.Rows[i]
		lines = append(lines,
			plotLine{row.latencies, fmt.Sprintf("%s, %d", row.Store, row.Clients)},
			plotLine{row.yardstick, fmt.Sprintf("beside, %d", row.Clients)})
	}
	return writePlot(w, "Latency of transfers over two stores, sync "+r.Settings.Sync, "part of them that were as fast or faster", "store, clients", lines)
}

// TargetsMissed are those that were not reached, as in Missed.
func (r *StoresReport) TargetsMissed() []string { return r.Missed }
