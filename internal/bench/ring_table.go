// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the report for people.
func (r *RingReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "routing, %d keys, %s of %.3g s each in all, %d CPUs, %s %s/%s\n\n", r.Settings.Keys, count(r.Settings.Rounds, "round"), r.Settings.DurationS,
		r.Machine.CPUs, r.Machine.Go, r.Machine.OS, r.Machine.Arch)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "nodes\tpartitions\tlookup ns\tMaglev ns\t× Maglev\tallocations\tcircle peak\tkeys peak\tof jump hash\tjoin, × least\tleave, × least\tstray keys\tnew ms\tnext ms\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(table, "%d\t%d\t%.1f\t%.1f\t%.2f\t%.3g\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%d\t%.2f\t%.2f\t\n", row.Nodes, row.Partitions, row.LookupNS, row.MaglevNS, row.LookupRatio,
			row.Allocations, row.CirclePeak, row.Peak, row.JumpPeak, row.JoinMoved, row.LeaveMoved, row.Stray, row.NewMS, row.NextMS)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\nrequests with one key: p50 %.3f ms, p99 %.3f ms; bare requests between them: p50 %.3f ms, p99 %.3f ms\n",
		r.Route.P50MS, r.Route.P99MS, r.Route.EchoP50MS, r.Route.EchoP99MS)
	fmt.Fprintf(&b, "requests with %d keys: %.0f keys/s, one client\n", r.Route.BatchKeys, r.Route.KeysPerS)
	fmt.Fprintf(&b, "%s heard by %s: p50 %.1f ms; by the last one p50 %.1f ms, at most %.1f ms\n\n", count(r.Changes.Changes, "change"), count(r.Changes.Followers, "follower"),
		r.Changes.P50MS, r.Changes.LastP50MS, r.Changes.LastMaxMS)
	writeTargets(&b, r.targets())
	if r.Errors > 0 {
		fmt.Fprintf(&b, "%s, the first: %s\n", count(int(r.Errors), "error"), r.FirstError)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeTargets says of each target whether it was reached.
func writeTargets(b *strings.Builder, targets []target) {
	for _, t := range targets {
		verdict := "reached"
		if !t.met() {
			verdict = "MISSED"
		}
		fmt.Fprintf(b, "%-8s %s\n", verdict, t)
	}
}

// WritePlot draws by percentile how long requests with one key took, bare ones, and changes until a follower knew them, as an SVG.
func (r *RingReport) WritePlot(w io.Writer) error {
	return writePlot(w, "Requests to the routing service, and changes until a client knows them", "part of them that were as fast or faster", "what", []plotLine{
		{r.Route.latencies, "one key"}, {r.Route.yardstick, "bare request"}, {r.Changes.latencies, "change"},
	})
}
