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
	boxWidth   = 330
	lineHeight = 17
	margin     = 24
	head       = 44 // above the ring
	inBox      = 44 // characters
	bend       = 40 // of an edge, so that one and its opposite do not cover each other
)

// point is a place in the picture.
type point struct{ x, y float64 }

// box is a transaction in the picture.
type box struct {
	point  // its middle
	height float64
	lines  []string
}

// WriteSVG draws an anomaly: the transactions in a ring, with the edges between them, and what each means below.
func (a *Anomaly) WriteSVG(w io.Writer) error {
	boxes, width, ring := a.boxes()
	notes := a.notes()
	height := head + ring + float64(len(notes)+1)*lineHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="13">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<title>%s</title><rect width="100%%" height="100%%" fill="white"/>`+"\n", escape(string(a.Class)))
	b.WriteString(`<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0L10 5L0 10z" fill="#444"/></marker></defs>` + "\n")
	fmt.Fprintf(&b, `<text x="%d" y="%d" font-size="17" font-weight="bold">%s</text>`+"\n", margin, margin+4, escape(string(a.Class)))
	for i := range a.Edges {
		a.Edges[i].draw(&b, &boxes[a.Edges[i].From], &boxes[a.Edges[i].To])
	}
	for i := range boxes {
		boxes[i].draw(&b, a.Transactions[i].Operations)
	}
	for i, note := range notes {
		fmt.Fprintf(&b, `<text x="%d" y="%.0f">%s</text>`+"\n", margin, head+ring+float64(i+1)*lineHeight, escape(note))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// boxes places the transactions, and gives the picture's width and the ring's height.
func (a *Anomaly) boxes() (boxes []box, width, height float64) {
	n := float64(len(a.Transactions))
	tallest := 0.0
	for i := range a.Transactions {
		t := &a.Transactions[i]
		lines := []string{t.Label}
		if t.Tx != "" {
			lines[0] += " = " + t.Tx
		}
		if len(t.relevant) == 0 {
			lines = append(lines, t.Operations)
		}
		lines = append(lines, t.relevant...)
		b := box{lines: lines, height: float64(len(lines)*lineHeight + 12)}
		tallest = math.Max(tallest, b.height)
		boxes = append(boxes, b)
	}
	across, down := math.Max(boxWidth*0.8, n*75), math.Max(tallest*0.5+70, n*42)
	if n == 1 {
		across, down = 0, 0
	}
	width = math.Max(2*across+boxWidth+2*margin+2*bend, 900)
	height = 2*down + tallest + 2*margin
	for i := range boxes {
		angle := 2 * math.Pi * float64(i) / n
		if n == 2 {
			angle = math.Pi * float64(1-i) // side by side
		} else {
			angle -= math.Pi / 2
		}
		boxes[i].point = point{width/2 + across*math.Cos(angle), head + height/2 + down*math.Sin(angle)}
	}
	if n == 2 {
		height = tallest + 2*margin + 2*bend
		boxes[0].y, boxes[1].y = head+height/2, head+height/2
		boxes[0].x, boxes[1].x = width/2-boxWidth*0.9, width/2+boxWidth*0.9
	}
	return boxes, width, height
}

// notes are the lines below the picture.
func (a *Anomaly) notes() []string {
	if len(a.Edges) == 0 {
		return []string{a.Text}
	}
	var lines []string
	for i := range a.Edges {
		lines = append(lines, a.reason(&a.Edges[i]))
	}
	return lines
}

var colours = map[string]string{"ww": "#b02020", "wr": "#1f6fb4", "rw": "#8a4fbf"}

// draw draws an edge, bent to its left.
func (e *Edge) draw(b *strings.Builder, from, to *box) {
	dx, dy := to.x-from.x, to.y-from.y
	length := math.Max(math.Hypot(dx, dy), 1)
	middle := point{(from.x+to.x)/2 + bend*dy/length, (from.y+to.y)/2 - bend*dx/length}
	start, end := from.leave(middle), to.leave(middle)
	colour := colours[e.Kind]
	if colour == "" {
		colour = "#444"
	}
	fmt.Fprintf(b, `<path d="M%.0f %.0fQ%.0f %.0f %.0f %.0f" fill="none" stroke="%s" stroke-width="1.6" marker-end="url(#tip)"><title>%s</title></path>`+"\n",
		start.x, start.y, middle.x, middle.y, end.x, end.y, colour, escape(e.Why))
	label := point{(start.x+2*middle.x+end.x)/4 + 14*dy/length, (start.y+2*middle.y+end.y)/4 - 14*dx/length}
	fmt.Fprintf(b, `<text x="%.0f" y="%.0f" text-anchor="middle" fill="%s">%s</text>`+"\n", label.x, label.y+4, colour, escape(e.label()))
}

// leave is where a line from the box's middle to a point leaves the box.
func (x *box) leave(to point) point {
	dx, dy := to.x-x.x, to.y-x.y
	scale := math.Min(boxWidth/2/math.Max(math.Abs(dx), 1e-9), x.height/2/math.Max(math.Abs(dy), 1e-9))
	scale = math.Min(scale, 1)
	return point{x.x + dx*scale, x.y + dy*scale}
}

// draw draws a box; the whole of what its transaction did is its title.
func (x *box) draw(b *strings.Builder, operations string) {
	fmt.Fprintf(b, `<g text-anchor="middle"><title>%s</title><rect x="%.0f" y="%.0f" width="%d" height="%.0f" rx="6" fill="#f4f6fa" stroke="#444"/>`,
		escape(operations), x.x-boxWidth/2, x.y-x.height/2, boxWidth, x.height)
	for i, line := range x.lines {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold" font-size="11"`
		}
		fmt.Fprintf(b, `<text x="%.0f" y="%.0f"%s>%s</text>`, x.x, x.y-x.height/2+float64(i+1)*lineHeight+2, weight, escape(short(line, inBox)))
	}
	b.WriteString("</g>\n")
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder does not fail
	return b.String()
}
