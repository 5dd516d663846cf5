// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// draw makes a record of one line, as show writes it:
//
//	handoff 7 | a a1 x2 | b b1 down | aab. -> aabb | 2@5
//
// kind and epoch; the nodes with their sessions (a hyphen for static ones), weights other than 1 and what else they are; owners by partition
// (nobody is a dot) and targets if they differ; the moves. The incarnation is 100, the grace 1000 ms, the batch 2.
func draw(t testing.TB, text string) *Record {
	t.Helper()
	parts := strings.Split(text, " | ")
	r := &Record{V: Version, Group: "g", Incarnation: 100, Pins: ring.Pins{}}
	if _, err := fmt.Sscan(parts[0], &r.Kind, &r.Epoch); err != nil {
		t.Fatal(err)
	}
	owners, targets := "", ""
	for _, part := range parts[1:] {
		words := strings.Fields(part)
		switch first := words[0]; {
		case strings.Contains(first, "@"):
			for _, word := range words {
				var m Move
				if _, err := fmt.Sscanf(word, "%d@%d", &m.Partition, &m.Since); err != nil {
					t.Fatal(err)
				}
				r.Moving = append(r.Moving, m)
			}
		case strings.Contains(first, "="):
			for _, word := range words {
				var p int
				var name string
				if _, err := fmt.Sscanf(word, "%d=%s", &p, &name); err != nil {
					t.Fatal(err)
				}
				r.Pins[p] = name
			}
		case len(words) >= 2 && words[1] != "->":
			r.Nodes = append(r.Nodes, drawNode(t, words))
		default:
			owners, targets = first, words[len(words)-1]
		}
	}
	r.Settings = Settings{Partitions: len(owners), Kind: r.Kind, GraceMS: 1000, Batch: 2}
	if err := r.check(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	r.complete(r.tableOf(drawTable(owners)), r.tableOf(drawTable(targets)))
	if err := r.checkMoves(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func drawNode(t testing.TB, words []string) Node {
	t.Helper()
	n := Node{Name: words[0], Weight: 1, Session: words[1]}
	if n.Session == "-" {
		n.Session, n.Static = "", true
	}
	for _, word := range words[2:] {
		switch word {
		case "down":
			n.Down = true
		case "leaving":
			n.Leaving = true
		case "removing":
			n.Removing = true
		default:
			if _, err := fmt.Sscanf(word, "x%d", &n.Weight); err != nil {
				t.Fatalf("%s: %v", word, err)
			}
		}
	}
	if !n.Static {
		n.Revision = revisionOf(n.Session)
	}
	return n
}

// revisionOf is the revision of the presence of a session: 10 for a1, 20 for a2.
func revisionOf(session string) uint64 { return 10 * uint64(session[len(session)-1]-'0') }

func drawTable(text string) []string {
	names := make([]string, len(text))
	for p, c := range text {
		if c != '.' {
			names[p] = string(c)
		}
	}
	return names
}

// show writes a record on one line.
func show(r *Record) string {
	b := fmt.Sprintf("%s %d", r.Kind, r.Epoch)
	for i := range r.Nodes {
		n := &r.Nodes[i]
		b += " | " + n.Name + " " + cmp.Or(n.Session, "-")
		if n.Weight != 1 {
			b += fmt.Sprintf(" x%d", n.Weight)
		}
		for _, is := range []struct {
			so   bool
			word string
		}{{n.Leaving, "leaving"}, {n.Removing, "removing"}, {n.Down, "down"}} {
			if is.so {
				b += " " + is.word
			}
		}
	}
	owners, targets := "", ""
	for p := range r.Partitions {
		owners += cmp.Or(r.Owner(p), ".")
		targets += cmp.Or(r.Target(p), ".")
	}
	b += " | " + owners
	if targets != owners {
		b += " -> " + targets
	}
	var moves, pins []string
	for _, m := range r.Moving {
		moves = append(moves, fmt.Sprintf("%d@%d", m.Partition, m.Since))
	}
	for p := range r.Partitions {
		if name := r.Pins[p]; name != "" {
			pins = append(pins, fmt.Sprintf("%d=%s", p, name))
		}
	}
	for _, list := range [][]string{pins, moves} {
		if len(list) > 0 {
			b += " | " + strings.Join(list, " ")
		}
	}
	return b
}

// drawView makes a view: presences as "a1" or "a1 leaving 2@5" (session, what was released), sessions that have ended as "a1 ended 500"
// (for how many ms), separated by commas.
func drawView(t testing.TB, text string) *View {
	t.Helper()
	v := &View{Nodes: make(map[string]Presence), Ended: make(map[string]int64)}
	for part := range strings.SplitSeq(text, ",") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		session := words[0]
		if i := slices.Index(words, "ended"); i >= 0 {
			var ms int64
			if _, err := fmt.Sscan(words[i+1], &ms); err != nil {
				t.Fatal(err)
			}
			v.Ended[session] = ms
			continue
		}
		said := Presence{V: Version, Session: session, Weight: 1, Incarnation: 100, Revision: revisionOf(session)}
		for _, word := range words[1:] {
			var m Move
			switch {
			case word == "leaving":
				said.Leaving = true
			case word == "early":
				said.Incarnation = 0
			case word == "before":
				said.Incarnation = 99
			case strings.HasPrefix(word, "x"):
				_, _ = fmt.Sscanf(word, "x%d", &said.Weight)
			default:
				if _, err := fmt.Sscanf(word, "%d@%d", &m.Partition, &m.Since); err != nil {
					t.Fatalf("%s: %v", word, err)
				}
				said.Released = append(said.Released, m)
			}
		}
		v.Nodes[session[:1]] = said
	}
	return v
}
