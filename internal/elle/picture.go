// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// WriteDOT draws an anomaly in the language of Graphviz.
func (a *Anomaly) WriteDOT(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph anomaly {\n  label=%q;\n  node [shape=box];\n", string(a.Class))
	for _, t := range a.Transactions {
		fmt.Fprintf(&b, "  %s [label=%q];\n", t.Label, t.Label+": "+short(t.Operations, 80))
	}
	for _, e := range a.Edges {
		fmt.Fprintf(&b, "  %s -> %s [label=%q, tooltip=%q];\n", a.Transactions[e.From].Label, a.Transactions[e.To].Label, e.label(), e.Why)
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// The measures of the SVG picture, in its units.
const (
	boxWidth, boxHeight = 300, 46
	lineHeight          = 18
	margin              = 24
	inBox               = 40 // characters
)

// point is a place in the picture.
type point struct{ x, y float64 }

// WriteSVG draws an anomaly: the transactions in a ring, with the edges between them, and what each means below.
func (a *Anomaly) WriteSVG(w io.Writer) error {
	n := len(a.Transactions)
	radius := math.Max(130, float64(n)*58)
	if n == 1 {
		radius = 0
	}
	width := 2*radius + boxWidth + 2*margin + 120
	ring := 2*radius*0.8 + boxHeight + 2*margin + 20
	places := make([]point, n)
	for i := range places {
		angle := 2*math.Pi*float64(i)/float64(n) - math.Pi/2
		places[i] = point{width/2 + radius*math.Cos(angle), 40 + ring/2 + 0.8*radius*math.Sin(angle)}
	}
	notes := a.notes()
	height := 40 + ring + float64(len(notes)+1)*lineHeight
	width = math.Max(width, 900)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<title>%s</title><rect width="100%%" height="100%%" fill="white"/>`+"\n", escape(string(a.Class)))
	b.WriteString(`<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="17" font-weight="bold">%s</text>`+"\n", margin, margin+4, escape(string(a.Class)))
	for _, e := range a.Edges {
		drawEdge(&b, &e, places[e.From], places[e.To])
	}
	for i, t := range a.Transactions {
		name := t.Label
		if t.Tx != "" {
			name += " = " + t.Tx
		}
		drawBox(&b, places[i], name, t.Operations)
	}
	for i, note := range notes {
		fmt.Fprintf(&b, `<text x="%d" y="%.0f">%s</text>`+"\n", margin, 40+ring+float64(i+1)*lineHeight, escape(note))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// notes are the lines below the picture.
func (a *Anomaly) notes() []string {
	if len(a.Edges) == 0 {
		return []string{a.Text}
	}
	var lines []string
	for _, e := range a.Edges {
		lines = append(lines, a.reason(&e))
	}
	return lines
}

var colours = map[string]string{"ww": "#b02020", "wr": "#1f6fb4", "rw": "#8a4fbf"}

// drawEdge draws an edge, bent to its left, so that one and its opposite do not cover each other.
func drawEdge(b *strings.Builder, e *Edge, from, to point) {
	dx, dy := to.x-from.x, to.y-from.y
	length := math.Max(math.Hypot(dx, dy), 1)
	bend := 40.0
	middle := point{(from.x+to.x)/2 + bend*dy/length, (from.y+to.y)/2 - bend*dx/length}
	start, end := leave(from, middle), leave(to, middle)
	colour := colours[e.Kind]
	if colour == "" {
		colour = "#444"
	}
	fmt.Fprintf(b, `<path d="M%.0f %.0fQ%.0f %.0f %.0f %.0f" fill="none" stroke="%s" stroke-width="1.6" marker-end="url(#tip)"><title>%s</title></path>`+"\n",
		start.x, start.y, middle.x, middle.y, end.x, end.y, colour, escape(e.Why))
	label := point{(start.x+2*middle.x+end.x)/4 + 12*dy/length, (start.y+2*middle.y+end.y)/4 - 12*dx/length}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle" fill="%s">%s</text>`+"\n", label.x, label.y+4, colour, escape(e.label()))
}

// leave is where a line from a box's middle to a point leaves the box.
func leave(box, to point) point {
	dx, dy := to.x-box.x, to.y-box.y
	scale := math.Min(boxWidth/2/math.Max(math.Abs(dx), 1e-9), boxHeight/2/math.Max(math.Abs(dy), 1e-9))
	scale = math.Min(scale, 1)
	return point{box.x + dx*scale, box.y + dy*scale}
}

func drawBox(b *strings.Builder, at point, name, operations string) {
	fmt.Fprintf(b, `<g><title>%s</title><rect x="%.0f" y="%.0f" width="%d" height="%d" rx="6" fill="#f4f6fa" stroke="#444"/>`,
		escape(operations), at.x-boxWidth/2, at.y-boxHeight/2, boxWidth, boxHeight)
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle" font-weight="bold">%s</text>`, at.x, at.y-5, escape(short(name, inBox)))
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle">%s</text></g>`+"\n", at.x, at.y+14, escape(short(operations, inBox)))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}
