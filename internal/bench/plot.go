// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The picture's measures, in pixels.
const (
	plotWidth, plotHeight                 = 860, 480
	plotLeft, plotRight                   = 80, 150
	plotTop, plotBottom                   = 56, 64
	plotAreaWidth                         = plotWidth - plotLeft - plotRight
	plotAreaHeight                        = plotHeight - plotTop - plotBottom
	plotBottomEdge, plotRightEdge         = plotHeight - plotBottom, plotWidth - plotRight
	plotPoints                            = 120
	plotNines                     float64 = 4 // the last percentile is 99.99
)

// plotColours tell rows apart, also for who does not see red and green apart (Okabe and Ito, 2008).
var plotColours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"}

// plot is a picture of the latencies: percentiles to the right, by nines; milliseconds upwards, by decades.
type plot struct {
	low, high float64 // the decades shown, as powers of ten of milliseconds
	out       strings.Builder
}

// WritePlot draws each row's latencies by percentile, as an SVG.
func (r *Report) WritePlot(w io.Writer) error {
	lines := make([]plotLine, len(r.Rows))
	for i := range r.Rows {
		row := &r.Rows[i]
		lines[i] = plotLine{row.latencies, fmt.Sprintf("%d, %.0f/s", row.Concurrency, row.TPS)}
	}
	title := fmt.Sprintf("Latency of a transaction with %s, sync always", count(r.Settings.Participants, "participant"))
	return writePlot(w, title, "part of the transactions that were as fast or faster", "clients, tx/s", lines)
}

// plotLine is one distribution of latencies, and what the legend calls it.
type plotLine struct {
	latencies *hdrhistogram.Histogram // in nanoseconds
	name      string
}

// writePlot draws latencies by percentile.
func writePlot(w io.Writer, title, across, legend string, lines []plotLine) error {
	p := &plot{}
	p.scale(lines)
	p.frame(title, across, legend)
	for i := range lines {
		p.line(i, &lines[i])
	}
	p.out.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.out.String())
	return err
}

// scale chooses decades that hold all latencies.
func (p *plot) scale(lines []plotLine) {
	p.low, p.high = math.Inf(1), math.Inf(-1)
	for i := range lines {
		p.low = min(p.low, math.Floor(math.Log10(lines[i].at(0))))
		p.high = max(p.high, math.Ceil(math.Log10(lines[i].at(plotNines))))
	}
	if p.low >= p.high { // also when there are no lines
		p.low, p.high = -1, 3
	}
}

// at is the latency in milliseconds where so many nines were faster.
func (l *plotLine) at(nines float64) float64 {
	percent := 100 * (1 - math.Pow(10, -nines))
	return max(milliseconds(l.latencies.ValueAtQuantile(percent)), milliseconds(int64(shortest)))
}

func plotX(nines float64) float64 { return plotLeft + plotAreaWidth*nines/plotNines }

func (p *plot) y(ms float64) float64 {
	return plotBottomEdge - plotAreaHeight*(math.Log10(ms)-p.low)/(p.high-p.low)
}

// frame draws what is behind the lines.
func (p *plot) frame(title, across, legend string) {
	fmt.Fprintf(&p.out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n",
		plotWidth, plotHeight, plotWidth, plotHeight)
	fmt.Fprintf(&p.out, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWidth, plotHeight)
	p.text(plotLeft, 28, "start", "#222", title)
	for nines, name := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %"} {
		p.rule(plotX(float64(nines)), plotTop, plotX(float64(nines)), plotBottomEdge)
		p.text(plotX(float64(nines)), plotBottomEdge+20, "middle", "#555", name)
	}
	median := plotX(math.Log10(2))
	p.rule(median, plotTop, median, plotBottomEdge)
	p.text(median, plotBottomEdge+20, "middle", "#555", "50 %")
	for decade := p.low; decade <= p.high; decade++ {
		ms := math.Pow(10, decade)
		p.rule(plotLeft, p.y(ms), plotRightEdge, p.y(ms))
		p.text(plotLeft-8, p.y(ms)+4, "end", "#555", strconv.FormatFloat(ms, 'g', -1, 64)+" ms")
	}
	p.text(plotLeft+plotAreaWidth/2, plotBottomEdge+44, "middle", "#555", across)
	p.text(plotRightEdge+16, plotTop-8, "start", "#555", legend)
}

// line draws a distribution, and its place in the legend.
func (p *plot) line(i int, l *plotLine) {
	colour := plotColours[i%len(plotColours)]
	fmt.Fprintf(&p.out, `<polyline fill="none" stroke="%s" stroke-width="2" stroke-linejoin="round" points="`, colour)
	for point := range plotPoints + 1 {
		nines := plotNines * float64(point) / plotPoints
		fmt.Fprintf(&p.out, "%.1f,%.1f ", plotX(nines), p.y(l.at(nines)))
	}
	p.out.WriteString("\"/>\n")
	y := float64(plotTop + 14 + 22*i)
	fmt.Fprintf(&p.out, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="3"/>`+"\n",
		plotRightEdge+16, y-4, plotRightEdge+36, y-4, colour)
	p.text(plotRightEdge+42, y, "start", "#222", l.name)
}

func (p *plot) rule(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&p.out, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", x1, y1, x2, y2)
}

func (p *plot) text(x, y float64, anchor, colour, text string) {
	fmt.Fprintf(&p.out, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, colour, text)
}
