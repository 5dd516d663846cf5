// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// drawn is what a picture says.
type drawn struct {
	titles, texts []string
	// arcs is how much of each circle is coloured, by radius.
	arcs map[string]float64
	// ends is where the last arc of a circle ended: the next begins there.
	ends          map[string]string
	ticks, shades int
}

func picture(t *testing.T, r *ring.Ring) (d drawn) {
	t.Helper()
	var svg strings.Builder
	if err := r.WriteSVG(&svg); err != nil {
		t.Fatal(err)
	}
	d.arcs, d.ends = map[string]float64{}, map[string]string{}
	colors := map[string]bool{}
	inside := ""
	for decoder := xml.NewDecoder(strings.NewReader(svg.String())); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			d.shades = len(colors)
			return d
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			inside = token.Name.Local
			d.element(t, token, colors)
		case xml.CharData:
			switch text := strings.TrimSpace(string(token)); {
			case text == "":
			case inside == "title":
				d.titles = append(d.titles, text)
			case inside == "text":
				d.texts = append(d.texts, text)
			}
		}
	}
}

var arc = regexp.MustCompile(`^M(\S+) (\S+)(?:A\d+ \d+ 0 0 1 \S+ \S+)?A(\d+) \d+ 0 0 1 (\S+) (\S+)$`)

func (d *drawn) element(t *testing.T, e xml.StartElement, colors map[string]bool) {
	attributes := map[string]string{}
	for _, a := range e.Attr {
		attributes[a.Name.Local] = a.Value
		if strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") {
			t.Fatalf("%s %s=%q", e.Name.Local, a.Name.Local, a.Value)
		}
	}
	if e.Name.Local != "path" {
		return
	}
	ends := arc.FindStringSubmatch(attributes["d"])
	if ends == nil {
		d.ticks++
		return
	}
	colors[attributes["stroke"]] = true
	angle := func(x, y string) float64 {
		a, errX := strconv.ParseFloat(x, 64)
		b, errY := strconv.ParseFloat(y, 64)
		if errX != nil || errY != nil {
			t.Fatal(errX, errY)
		}
		return math.Atan2(a-390, 390-b)
	}
	begin := ends[1] + " " + ends[2]
	if last, begun := d.ends[ends[3]]; begun && begin != last {
		t.Errorf("an arc begins at %s; the one before ended at %s", begin, last)
	}
	d.ends[ends[3]] = ends[4] + " " + ends[5]
	turn := math.Mod(angle(ends[4], ends[5])-angle(ends[1], ends[2])+4*math.Pi, 2*math.Pi)
	if turn < 1e-6 {
		turn = 2 * math.Pi
	}
	d.arcs[ends[3]] += turn / (2 * math.Pi)
}

func TestPicture(t *testing.T) {
	for _, n := range []int{1, 2, 3, 24, 25, 100, 300} {
		r := must(t)(ring.New(1024, members(n), ring.Pins{7: "node-0", 70: "node-0"}))
		d := picture(t, r)
		// The outer circle is drawn in gray first, the inner one has nothing under it.
		if math.Abs(d.arcs["262"]-2) > 0.01 || math.Abs(d.arcs["206"]-1) > 0.01 || len(d.arcs) != 2 {
			t.Errorf("%d nodes: circles of %v", n, d.arcs)
		}
		if d.shades < min(n, 90) {
			t.Errorf("%d nodes in %d colours", n, d.shades)
		}
		gaps := n
		if n > 180 {
			gaps = 0
		}
		if d.ticks != gaps+2 {
			t.Errorf("%d nodes: %d ticks", n, d.ticks)
		}
		for _, node := range r.Balance().Nodes {
			share := fmt.Sprintf("%.2f %%", 100*node.Share)
			if !strings.Contains(strings.Join(d.texts, "|"), "|"+node.Name+"|"+share) {
				t.Errorf("%d nodes: the legend does not say that %s has %s", n, node.Name, share)
			}
			if title := fmt.Sprintf("%s: %d partition", node.Name, node.Partitions); !strings.Contains(strings.Join(d.titles, "|"), title) {
				t.Errorf("%d nodes: no arc is that of %s", n, node.Name)
			}
		}
	}
}

func TestPictureOfOthers(t *testing.T) {
	long := strings.Repeat("long", 16)
	weighted := []ring.Node{{Name: long, Weight: 3, Zone: long}, {Name: "b", Weight: 1, Zone: "east"}, {Name: "c", Zone: "east"}, {Name: "d", Weight: 1000}}
	for what, test := range map[string]struct {
		ring *ring.Ring
		says []string
	}{
		"the zero ring": {&ring.Ring{}, []string{"0 nodes", "0 partitions"}},
		"nobody":        {must(t)(ring.New(16, nil, nil)), []string{"0 nodes", "16 partitions", "16 owned by nobody", "nobody", "100.00 %"}},
		"one partition": {must(t)(ring.New(1, members(2), nil)), []string{"1 partition", "2 nodes", "fullest node 2.000 × its fair share"}},
		"weights":       {must(t)(ring.New(5000, weighted, nil)), []string{"longlong…glonglong", "longlo…onglong ×3", "east", "drained", "×1000", "5000 partitions (720 drawn)"}},
	} {
		d := picture(t, test.ring)
		for _, text := range test.says {
			if !strings.Contains("|"+strings.Join(d.texts, "|")+"|", "|"+text+"|") {
				t.Errorf("%s: %q is not in %q", what, text, d.texts)
			}
		}
	}
}

func TestPictureIsAlwaysTheSame(t *testing.T) {
	r := must(t)(ring.New(300, members(30), ring.Pins{1: "node-1", 2: "node-2", 9: "node-9"}))
	var a, b strings.Builder
	if r.WriteSVG(&a) != nil || r.WriteSVG(&b) != nil || a.String() != b.String() {
		t.Error("two pictures of one ring differ")
	}
}

type full struct{ left int }

var errFull = errors.New("full")

func (f *full) Write(p []byte) (int, error) {
	if f.left < len(p) {
		return f.left, errFull
	}
	f.left -= len(p)
	return len(p), nil
}

func TestPictureThatCannotBeWritten(t *testing.T) {
	r := must(t)(ring.New(300, members(3), nil))
	for _, left := range []int{0, 5000} {
		if err := r.WriteSVG(&full{left}); !errors.Is(err, errFull) {
			t.Errorf("after %d bytes: %v", left, err)
		}
	}
}
