// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// WriteText tells an anomaly to people: what is wrong, the transactions, and a picture of the cycle.
func (a *Anomaly) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n", a.Class, a.Text)
	for i := range a.Transactions {
		fmt.Fprintf(&b, "  %s\n", a.Transactions[i].line())
	}
	if len(a.Edges) > 0 {
		b.WriteString(a.picture("  "))
	}
	for _, e := range a.Edges {
		fmt.Fprintf(&b, "  %s\n", a.reason(&e))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// line tells of a transaction.
func (t *Transaction) line() string {
	if t.Tx == "" {
		return t.Label + ": " + t.Operations
	}
	return t.Label + " = " + t.Tx + ": " + t.Operations
}

// reason tells why an edge holds.
func (a *Anomaly) reason(e *Edge) string {
	return fmt.Sprintf("%s before %s (%s): %s", a.Transactions[e.From].Label, a.Transactions[e.To].Label, e.Kind, e.Why)
}

// label is what stands at an edge.
func (e *Edge) label() string {
	if e.Key == "" {
		return e.Kind
	}
	return e.Kind + " " + short(e.Key, 16)
}

func short(text string, most int) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// shownInRow is how many transactions stand in the picture of a cycle; a longer one is cut in the middle.
const shownInRow = 6

// picture draws a cycle: a row of transactions, and the last edge below it.
//
//	T1 ──rw x──▶ T2 ──rw y──▶ T3
//	▲                         │
//	└──────────ww x───────────┘
func (a *Anomaly) picture(indent string) string {
	last := len(a.Edges) - 1
	var row strings.Builder
	row.WriteString(a.Transactions[0].Label)
	for i := range last {
		switch {
		case len(a.Edges) > shownInRow && i == shownInRow/2:
			row.WriteString(" ──…")
			continue
		case len(a.Edges) > shownInRow && i > shownInRow/2 && i < last-shownInRow/2:
			continue
		}
		fmt.Fprintf(&row, " ──%s──▶ %s", a.Edges[i].label(), a.Transactions[i+1].Label)
	}
	width := utf8.RuneCountInString(row.String())
	back := a.Edges[last].label()
	room := max(width-2-utf8.RuneCountInString(back), 2)
	line := "└" + strings.Repeat("─", room/2) + back + strings.Repeat("─", room-room/2) + "┘"
	sides := "▲" + strings.Repeat(" ", utf8.RuneCountInString(line)-2) + "│"
	return indent + row.String() + "\n" + indent + sides + "\n" + indent + line + "\n"
}
