// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the report for people.
func (r *LocksReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "locks, %s, sync %s, %s of %.3g s each in all, %d CPUs, %s %s/%s\n\n",
		count(r.Settings.Replicas, "replica"), r.Settings.Sync, count(r.Settings.Rounds, "round"), r.Settings.DurationS,
		r.Machine.CPUs, r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	fmt.Fprintf(&b, "raw JetStream, single publishes of %d bytes: p50 %.3f ms, p99 %.3f ms at 1 publisher; at 64 %.0f/s on one stream, %.0f/s on eight\n\n",
		r.Settings.Payload, r.Raw.PublishP50MS1, r.Raw.PublishP99MS1, r.Raw.PublishPerS64, r.Raw.PublishPerS64x8)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "mode\tclients\tpairs/s\tp50 ms\tp99 ms\thand-off p50 ms\thand-off p99 ms\tacquisitions/s\tJain\tviolations\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(table, "%s\t%d\t%s\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%d\t\n", row.Mode, row.Clients, cell("%.0f", row.PairsPerS), row.P50MS, row.P99MS,
			cell("%.2f", row.HandOffP50MS), cell("%.2f", row.HandOffP99MS), cell("%.0f", row.AcquisitionsPerS), cell("%.4f", row.Jain), row.Violations)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nratios: medians of the %s, in each of which a row and its yardstick are measured one after the other\n", count(len(r.Rounds), "round"))
	writeTargets(&b, r.targets())
	if r.Errors > 0 {
		fmt.Fprintf(&b, "%s, the first: %s\n", count(int(r.Errors), "error"), r.FirstError)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a figure, or nothing where none applies.
func cell(format string, value float64) string {
	if value == 0 {
		return ""
	}
	return fmt.Sprintf(format, value)
}

// WritePlot draws by percentile how long Lock and Unlock took uncontended, and hand-offs contended, as an SVG.
func (r *LocksReport) WritePlot(w io.Writer) error {
	var lines []plotLine
	for i := range r.Rows {
		row := &r.Rows[i]
		switch row.Mode {
		case uncontended:
			lines = append(lines, plotLine{row.latencies, fmt.Sprintf("pair, %d", row.Clients)})
		case contended:
			lines = append(lines, plotLine{row.handOffs, fmt.Sprintf("hand-off, %d", row.Clients)})
		}
	}
	return writePlot(w, "Lock and Unlock of own keys, and hand-offs of one key, sync "+r.Settings.Sync,
		"part of them that were as fast or faster", "what, clients", lines)
}
