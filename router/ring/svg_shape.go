// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"math"
)

// span is a part of a circle: 0 is the top, and 1 is the top again, clockwise.
type span struct{ from, to float64 }

func (s span) middle() float64 { return (s.from + s.to) / 2 }

func (s span) length(radius float64) float64 { return (s.to - s.from) * 2 * math.Pi * radius }

// point is a place on a circle.
func point(radius, at float64) (x, y float64) {
	sin, cos := math.Sincos(at * 2 * math.Pi)
	return center + radius*sin, center - radius*cos
}

// arc draws a part of a circle, with a title unless it is "".
func (p *picture) arc(radius float64, at span, stroke, title string) {
	x, y := point(radius, at.from)
	p.printf(`<path stroke="%s" d="M%.2f %.2f`, stroke, x, y)
	// An arc of more than half a circle is drawn in two: a whole one would end where it begins, and be nothing.
	if at.to-at.from > 0.5 {
		x, y = point(radius, at.middle())
		p.printf("A%g %g 0 0 1 %.2f %.2f", radius, radius, x, y)
	}
	x, y = point(radius, at.to)
	p.printf(`A%g %g 0 0 1 %.2f %.2f"`, radius, radius, x, y)
	if title == "" {
		p.printf("/>\n")
		return
	}
	p.printf("><title>%s</title></path>\n", title)
}

// tick draws a line across a circle of a width.
func (p *picture) tick(radius, width, at float64) {
	x1, y1 := point(radius-width/2, at)
	x2, y2 := point(radius+width/2, at)
	p.printf(`<path d="M%.2f %.2fL%.2f %.2f"/>`+"\n", x1, y1, x2, y2)
}

// color is a colour for one of some nodes: evenly spaced hues for few, for many hues a golden angle apart, in three shades.
// Shades are those of Oklab (Ottosson, 2020), so that no colour outshines the others.
func color(i, nodes int) string {
	const goldenAngle = 137.50776405
	hue, lightness := 250+360*float64(i)/float64(nodes), 0.70
	if nodes > 12 {
		hue, lightness = 250+goldenAngle*float64(i), []float64{0.70, 0.56, 0.82}[i%3]
	}
	const chroma = 0.13
	sin, cos := math.Sincos(hue * math.Pi / 180)
	a, b := chroma*cos, chroma*sin
	l := cube(lightness + 0.3963377774*a + 0.2158037573*b)
	m := cube(lightness - 0.1055613458*a - 0.0638541728*b)
	s := cube(lightness - 0.0894841775*a - 1.2914855480*b)
	return fmt.Sprintf("#%02x%02x%02x",
		channel(4.0767416621*l-3.3077115913*m+0.2309699292*s),
		channel(-1.2684380046*l+2.6097574011*m-0.3413193965*s),
		channel(-0.0041960863*l-0.7034186147*m+1.7076147010*s))
}

func cube(x float64) float64 { return x * x * x }

// channel is a linear part of a colour as sRGB has it.
func channel(x float64) uint8 {
	x = min(max(x, 0), 1)
	if x <= 0.0031308 {
		return uint8(math.Round(255 * 12.92 * x))
	}
	return uint8(math.Round(255 * (1.055*math.Pow(x, 1/2.4) - 0.055)))
}

// ink is what can be read on a colour.
func ink(color string) string {
	var r, g, b float64
	if _, err := fmt.Sscanf(color, "#%02x%02x%02x", &r, &g, &b); err == nil && 0.299*r+0.587*g+0.114*b > 155 {
		return "#1f2933"
	}
	return "#ffffff"
}

// short is a name of so many letters at most: what is too long loses its middle, since it is the ends that differ.
func short(name string, most int) string {
	if len(name) <= most {
		return name
	}
	tail := most / 2
	return name[:most-1-tail] + "…" + name[len(name)-tail:]
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func percent(share float64) string { return fmt.Sprintf("%.2f %%", 100*share) }
