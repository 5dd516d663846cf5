// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/assent-tx/assent/internal/check"
	"github.com/assent-tx/assent/internal/elle"
)

// tellCheck prints what was found, and is an error when there was an anomaly.
func (g *globals) tellCheck(f *checkFlags, r *check.Report) error {
	if err := f.draw(r.Report); err != nil {
		return err
	}
	if g.JSON {
		if err := g.printJSON(checkJSON(f, r)); err != nil {
			return err
		}
	} else if err := g.printCheck(f, r); err != nil {
		return err
	}
	if !r.OK() {
		return &exitError{code: exitAnomaly} // the output says what
	}
	return nil
}

// checkJSON is the report: without what only a run has, when a file was checked.
func checkJSON(f *checkFlags, r *check.Report) any {
	if f.history != "" {
		return r.Report
	}
	return r
}

// draw draws the first anomaly that is a cycle, or the first one.
func (f *checkFlags) draw(r *elle.Report) error {
	if len(r.Anomalies) == 0 {
		return nil
	}
	drawn := max(slices.IndexFunc(r.Anomalies, func(a elle.Anomaly) bool { return len(a.Edges) > 0 }), 0)
	for _, picture := range []struct {
		file string
		draw func(io.Writer) error
	}{{f.svg, r.Anomalies[drawn].WriteSVG}, {f.dot, r.Anomalies[drawn].WriteDOT}} {
		if picture.file == "" {
			continue
		}
		var out bytes.Buffer
		if err := picture.draw(&out); err != nil {
			return err
		}
		if err := os.WriteFile(picture.file, out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// shownAnomalies is how many are printed of each class.
const shownAnomalies = 2

func (g *globals) printCheck(f *checkFlags, r *check.Report) error {
	counts := newTable(g.out, "TRANSACTIONS", "COMMITTED", "FAILED", "UNKNOWN", "READS NOT HEARD")
	counts.row(strconv.Itoa(r.Transactions), strconv.Itoa(r.Committed), strconv.Itoa(r.Failed), strconv.Itoa(r.Unknown), strconv.Itoa(r.UnknownReads))
	counts.flush()
	if f.history == "" {
		fmt.Fprintf(g.out, "\n%.1f s, %.0f transactions a second; %d attempts met another transaction and were tried again\n", r.Seconds, r.TPS, r.Conflicts)
		fmt.Fprintf(g.out, "faults: %s\n", faultsText(r.Faults))
	}
	fmt.Fprintln(g.out)
	shown := make(map[elle.Class]int)
	for i := range r.Anomalies {
		a := &r.Anomalies[i]
		if shown[a.Class]++; shown[a.Class] > shownAnomalies {
			continue
		}
		if err := a.WriteText(g.out); err != nil {
			return err
		}
		fmt.Fprintln(g.out)
	}
	if r.Workload == check.Append {
		levels := newTable(g.out, "LEVEL", "VERDICT")
		for _, v := range r.Levels {
			levels.row(v.Level, verdictText(&v))
		}
		levels.flush()
		fmt.Fprintln(g.out)
	}
	fmt.Fprintln(g.out, anomaliesText(r.Report))
	return nil
}

func faultsText(faults map[string]int) string {
	if len(faults) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(faults)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, faults[name]))
	}
	return strings.Join(parts, ", ")
}

func verdictText(v *elle.Verdict) string {
	switch {
	case v.Unsure:
		return "nothing speaks against it, but the search was cut short"
	case v.Holds:
		return "nothing speaks against it"
	default:
		var classes []string
		for _, c := range v.Against {
			classes = append(classes, string(c))
		}
		return "no: " + strings.Join(classes, ", ")
	}
}

func anomaliesText(r *elle.Report) string {
	if r.OK() {
		return "No anomaly."
	}
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(r.Counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", r.Counts[class], class))
	}
	return "Anomalies: " + strings.Join(parts, ", ") + ". (Of cycles there may be more.)"
}
