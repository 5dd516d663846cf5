// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"unicode/utf8"
)

// Measures of the legend, in pixels, and its counts.
const (
	legendTop = 76
	rowHeight = 19
	margin    = 28
	// nameLeft is where the name begins in a row; shareWidth is room for the share and what parts columns.
	nameLeft, shareWidth = 44, 86
	// Letters are about so wide.
	nameLetter, noteLetter = 7.9, 6.4
	// nameLetters is how long a name is at most, and zoneLetters a zone.
	nameLetters, zoneLetters = 18, 14
	// rowsBeside is how many rows fit beside the circles.
	rowsBeside = 35
	// columnsBeside is how many columns may stand beside the circles; if there must be more, all stand below, so many abreast.
	columnsBeside, columnsBelow = 3, 6
	circles                     = 2 * int(center)
)

// row is what the legend says of a node.
type row struct{ color, number, name, note, share string }

// legend is the rows, and where they are.
type legend struct {
	rows          []row
	left, top     int
	columns, deep int
	// noteLeft is where the note begins in a row, and width is that of a column.
	noteLeft, width int
}

func newLegend(p *picture) legend {
	l := legend{left: circles, top: legendTop}
	for i := range p.balance.Nodes {
		n := &p.balance.Nodes[i]
		l.rows = append(l.rows, row{p.colors[i+1], fmt.Sprint(i + 1), short(n.Name, nameLetters), note(n), percent(n.Share)})
	}
	if n := p.balance.Unowned; n > 0 {
		l.rows = append(l.rows, row{gray, "", "nobody", "", percent(float64(n) / float64(len(p.ring.owners)))})
	}
	names, notes := len("nobody"), 0
	for _, r := range l.rows {
		names = max(names, utf8.RuneCountInString(r.name))
		notes = max(notes, utf8.RuneCountInString(r.note))
	}
	l.noteLeft = nameLeft + int(nameLetter*float64(names)) + 6
	l.width = l.noteLeft + int(noteLetter*float64(notes)) + shareWidth
	l.columns = max(1, divideUp(len(l.rows), rowsBeside))
	if l.columns > columnsBeside {
		l.left, l.top, l.columns = margin, circles+legendTop/2, columnsBelow
	}
	l.deep = divideUp(len(l.rows), l.columns)
	return l
}

func divideUp(a, b int) int { return (a + b - 1) / b }

// note says of a node what its name does not.
func note(n *NodeBalance) string {
	zone := short(n.Zone, zoneLetters)
	switch {
	case n.Weight == 0:
		return "drained"
	case n.Weight == 1:
		return zone
	case zone == "":
		return fmt.Sprintf("×%d", n.Weight)
	default:
		return fmt.Sprintf("%s ×%d", zone, n.Weight)
	}
}

// size is that of the picture with the legend.
func (l *legend) size() (width, height int) {
	return max(circles, l.left+l.columns*l.width+margin/2), max(circles, l.top+l.deep*rowHeight+margin)
}

func (l *legend) draw(p *picture) {
	p.printf(`<g fill="#7b8794" font-size="11">` + "\n")
	for column := range l.columns {
		x := l.left + column*l.width
		p.printf(`<text x="%d" y="%d">node</text><text x="%d" y="%d" text-anchor="end">share</text>`+"\n",
			x+nameLeft, l.top-14, x+l.width-shareWidth/3, l.top-14)
	}
	p.printf("</g>\n")
	for i, r := range l.rows {
		x, y := l.left+i/l.deep*l.width, l.top+i%l.deep*rowHeight
		p.printf(`<rect x="%d" y="%d" width="12" height="12" rx="3" fill="%s"/>`, x, y-1, r.color)
		p.printf(`<text x="%d" y="%d" text-anchor="end" font-size="10" fill="#9aa5b1">%s</text>`, x+nameLeft-6, y+9, r.number)
		p.printf(`<text x="%d" y="%d">%s</text>`, x+nameLeft, y+10, r.name)
		p.printf(`<text x="%d" y="%d" font-size="10" fill="#7b8794">%s</text>`, x+l.noteLeft, y+9, r.note)
		p.printf(`<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", x+l.width-shareWidth/3, y+10, r.share)
	}
}
