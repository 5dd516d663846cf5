// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table prints rows in columns.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, columns ...string) *table {
	t := &table{w: tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)}
	t.row(columns...)
	return t
}

// row prints cells; an empty one as a dash, and what others wrote in several lines in one, so that rows and columns can be counted.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cell = "-"
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, oneLine.Replace(plain(cell)))
	}
	fmt.Fprintln(t.w)
}

var oneLine = strings.NewReplacer("\n", " ", "\t", " ")

func (t *table) flush() { _ = t.w.Flush() } // standard output: there is nobody left to tell

// plain keeps what others wrote (reasons, payloads) from steering the terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if (r < ' ' && r != '\n' && r != '\t') || (r >= 0x7f && r < 0xa0) {
			return '·'
		}
		return r
	}, s)
}

// clock is a time as tables have it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// shorten cuts text for a table.
func shorten(s string, limit int) string {
	runes := []rune(s)
	if len(runes) <= limit {
		return s
	}
	return string(runes[:limit-1]) + "…"
}
