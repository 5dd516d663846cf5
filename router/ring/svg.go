// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"bufio"
	"fmt"
	"io"
)

// Measures of the picture, in pixels.
const (
	// center is where the middle of the circles is, from the left and from the top.
	center = 390.0
	// The outer circle shows the shares, the inner one the partitions: the radius of the middle of the line, and its width.
	outerRadius, outerWidth = 262.0, 40.0
	innerRadius, innerWidth = 206.0, 56.0
	pinRadius, pinWidth     = 170.0, 8.0
	nameRadius              = outerRadius + outerWidth/2 + 9
	// digits is how long an arc must be so that a number fits into it.
	digits = 15.0
)

// Counts of what can be told apart in a picture.
const (
	// maxSlices is how many partitions the inner circle shows.
	maxSlices = 720
	// maxNames is up to how many nodes have their names around the circle.
	maxNames = 24
	// aroundLetters is how long these names are at most.
	aroundLetters = 12
	// maxGaps is up to how many nodes have gaps between their shares.
	maxGaps = 180
)

// gray is the colour of what nobody owns.
const gray = "#e4e7eb"

// picture is a ring while it is drawn. What is written to w fails once at most, and w remembers it.
type picture struct {
	w       *bufio.Writer
	ring    *Ring
	balance Balance
	colors  []string // by index into the ring's names
	legend  legend
}

// WriteSVG draws the ring: around it the nodes by their shares, within which partition is whose, clockwise from the top,
// with ticks for pins; and a legend. Of more than 720 partitions only so many can be told apart and are drawn, evenly
// spaced; the shares are those of all. One ring's picture is always the same. Errors are the writer's.
func (r *Ring) WriteSVG(w io.Writer) error {
	p := &picture{w: bufio.NewWriter(w), ring: r, balance: r.Balance(), colors: []string{gray}}
	for i := range r.nodes {
		p.colors = append(p.colors, color(i, len(r.nodes)))
	}
	p.legend = newLegend(p)
	p.open()
	p.shares()
	p.partitions()
	p.pins()
	p.middle()
	p.legend.draw(p)
	p.printf("</svg>\n")
	return p.w.Flush()
}

func (p *picture) printf(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }

func (p *picture) open() {
	width, height := p.legend.size()
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" `, width, height, width, height)
	p.printf(`font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" fill="#1f2933">` + "\n")
	p.printf("<title>%s of %s</title>\n", plural(len(p.ring.owners), "partition"), plural(len(p.ring.nodes), "node"))
	p.printf(`<rect width="%d" height="%d" rx="12" fill="#ffffff"/>`+"\n", width, height)
}

// shares draws the outer circle: one arc a node, in the order of the legend.
func (p *picture) shares() {
	p.printf(`<g fill="none" stroke-width="%g">`+"\n", outerWidth)
	p.arc(outerRadius, span{0, 1}, gray, "")
	p.each(func(i int, at span) {
		n := &p.balance.Nodes[i]
		p.arc(outerRadius, at, p.colors[i+1], fmt.Sprintf("%s: %s, %s", n.Name, plural(n.Partitions, "partition"), percent(n.Share)))
	})
	p.printf("</g>\n")
	if len(p.ring.nodes) <= maxGaps {
		p.printf(`<g stroke="#ffffff" stroke-width="1.5">` + "\n")
		p.each(func(_ int, at span) { p.tick(outerRadius, outerWidth, at.from) })
		p.printf("</g>\n")
	}
	p.printf(`<g font-size="10" font-weight="600" text-anchor="middle" fill="#ffffff">` + "\n")
	p.each(func(i int, at span) {
		if at.length(outerRadius) >= digits {
			x, y := point(outerRadius, at.middle())
			p.printf(`<text x="%.2f" y="%.2f" fill="%s">%d</text>`+"\n", x, y+3.5, ink(p.colors[i+1]), i+1)
		}
	})
	p.printf("</g>\n")
	p.names()
}

// names writes the names around the circle, while there is room.
func (p *picture) names() {
	if len(p.ring.nodes) > maxNames {
		return
	}
	p.printf(`<g font-size="12">` + "\n")
	p.each(func(i int, at span) {
		if at.length(nameRadius) < digits {
			return // it would stand on its neighbours
		}
		x, y := point(nameRadius, at.middle())
		anchor := "start"
		switch {
		case x < center-nameRadius/6:
			anchor = "end"
		case x < center+nameRadius/6:
			anchor = "middle"
		}
		p.printf(`<text x="%.2f" y="%.2f" text-anchor="%s">%s</text>`+"\n", x, y+4, anchor, short(p.ring.nodes[i].Name, aroundLetters))
	})
	p.printf("</g>\n")
}

// each goes through the nodes that own something, with their arcs of the outer circle.
func (p *picture) each(draw func(i int, at span)) {
	from := 0.0
	for i := range p.balance.Nodes {
		if share := p.balance.Nodes[i].Share; share > 0 {
			draw(i, span{from, from + share})
			from += share
		}
	}
}

// partitions draws the inner circle: runs of partitions of one owner as one arc.
func (p *picture) partitions() {
	all := len(p.ring.owners)
	slices := min(all, maxSlices)
	owner := func(slice int) uint16 { return p.ring.owners[(2*slice+1)*all/(2*slices)] }
	p.printf(`<g fill="none" stroke-width="%g">`+"\n", innerWidth)
	for from := 0; from < slices; {
		to := from + 1
		for to < slices && owner(to) == owner(from) {
			to++
		}
		p.arc(innerRadius, span{float64(from) / float64(slices), float64(to) / float64(slices)}, p.colors[owner(from)], "")
		from = to
	}
	p.printf("</g>\n")
}

// pins draws a tick for each pin that has force.
func (p *picture) pins() {
	p.printf(`<g stroke="#1f2933" stroke-width="2">` + "\n")
	for _, pin := range p.ring.pins.partitions() {
		if p.ring.OwnerOf(pin) == p.ring.pins[pin] {
			p.tick(pinRadius, pinWidth, (float64(pin)+0.5)/float64(len(p.ring.owners)))
		}
	}
	p.printf("</g>\n")
}

// middle says in the middle of the circles what they are of.
func (p *picture) middle() {
	lines := []string{plural(len(p.ring.owners), "partition")}
	if len(p.ring.owners) > maxSlices {
		lines[0] += fmt.Sprintf(" (%d drawn)", maxSlices)
	}
	if p.balance.Peak > 0 {
		lines = append(lines, fmt.Sprintf("fullest node %.3f × its fair share", p.balance.Peak))
	}
	if p.balance.Unowned > 0 {
		lines = append(lines, fmt.Sprintf("%d owned by nobody", p.balance.Unowned))
	}
	p.printf(`<g text-anchor="middle">` + "\n")
	p.printf(`<text x="%g" y="%g" font-size="26" font-weight="600">%s</text>`+"\n", center, center-14, plural(len(p.ring.nodes), "node"))
	for i, line := range lines {
		p.printf(`<text x="%g" y="%g" fill="#52606d">%s</text>`+"\n", center, center+12+float64(i)*19, line)
	}
	p.printf("</g>\n")
}
