// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, payloads of %d bytes, sync always, %s, %d CPUs, %s %s/%s; coordinator %s, %s handlers\n\n",
		count(r.Settings.Participants, "participant"), r.Settings.Payload, count(r.Settings.Shards, "shard"), r.Machine.CPUs, r.Machine.Go, r.Machine.OS, r.Machine.Arch,
		r.Settings.Connection, r.Settings.Handler)
	fmt.Fprintf(&b, "raw JetStream, single publishes of %d bytes: %.0f/s at 64 publishers (connections: %s), p50 %.3f ms at 1\n\n",
		r.Settings.Payload, r.Raw.PublishPerS64, r.Raw.Connections, r.Raw.PublishP50MS1)
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "clients\ttx/s\traw/s\t× raw\tp50 ms\tp95 ms\tp99 ms\terrors\trecords/message\tCPU ms/tx\t")
	for i := range r.Rows {
		row := &r.Rows[i]
		fmt.Fprintf(table, "%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%d\t%.1f\t%.3f\t\n", row.Concurrency, row.TPS,
			row.Raw.PublishPerS64, r.Ratios.TPS[row.Concurrency],
			row.P50MS, row.P95MS, row.P99MS, row.Errors, row.RecordsPerMessage, row.CPUMSPerTx)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if r.Ratios.P50At1 > 0 {
		fmt.Fprintf(&b, "\nraw/s is the mean of the samples just before and after the row; p50 at 1 client is %.2f × that of a raw publish\n", r.Ratios.P50At1)
	}
	for i := range r.Rows {
		if row := &r.Rows[i]; row.Errors > 0 {
			fmt.Fprintf(&b, "%d clients: %d errors, the first: %s\n", row.Concurrency, row.Errors, row.FirstError)
		}
	}
	if r.OpenAfter > 0 {
		fmt.Fprintf(&b, "%d transactions were still open %v after the end\n", r.OpenAfter, patience)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// count is a number of things, "1 shard" or "2 shards".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
