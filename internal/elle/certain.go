// SPDX-License-Identifier: Apache-2.0

package elle

import "math"

// certain are the edges whose cycles rule out a level, the weakest level first: there is such a cycle if and only if they make a component of
// more than one transaction. (For snapshot isolation that is not so.)
var certain = []struct {
	edges kind
	level int // index of the level
}{{ww, 4}, {ww | wr, 3}, {data, 1}, {data | process, 0}, {all, 0}}

// ensure finds a cycle for each level that one rules out, should the search for the shortest of each class have ended before it found one: what
// is certain must not depend on how long was looked. Suspects are the nodes that lie on cycles, within tells which edges are of those.
func (s *search) ensure(suspects []int32, within func(from, to int32) bool) {
	if !s.found.Truncated {
		return // it has found them
	}
	for _, c := range certain {
		if s.ruledOut(c.level) {
			continue
		}
		cs := s.graph.connected(c.edges, suspects, within)
		for i, size := range cs.size {
			if size > 1 {
				s.any(cs, int32(i), c.edges)
				break
			}
		}
	}
}

// ruledOut: a cycle was found that rules the level out.
func (s *search) ruledOut(level int) bool {
	for i := range s.found.Anomalies {
		if a := &s.found.Anomalies[i]; len(a.Edges) > 0 && a.Class.level() >= level {
			return true
		}
	}
	return false
}

// any finds a cycle in a component by edges, of which there is one through each dependency.
func (s *search) any(cs *components, component int32, edges kind) {
	f := &finder{search: s, cs: cs, shape: shape{back: edges}, reach: cs, known: make(map[string]bool), work: math.MaxInt}
	for _, node := range cs.members(component) {
		if node >= s.graph.txs {
			continue
		}
		for _, e := range s.graph.from(node) {
			if e.kind&edges&data == 0 || cs.of[e.to] != component {
				continue
			}
			f.back(cycle{{node, e}}, none)
			class := f.cycles[0].class()
			s.found.Counts[class]++
			s.found.Anomalies = append(s.found.Anomalies, s.explain(class, f.cycles[0]))
			return
		}
	}
}

// class is a cycle's.
func (c cycle) class() Class {
	var kinds kind
	anti, inRow := 0, false
	for i := range c {
		k := c[i].edge.kind
		kinds |= k
		if k == rw {
			anti++
			inRow = inRow || c[(i+1)%len(c)].edge.kind == rw && len(c) > 1
		}
	}
	class := G0
	switch {
	case anti > 1 && inRow:
		class = G2Item
	case anti > 1:
		class = GNonadjacent
	case anti == 1:
		class = GSingle
	case kinds&wr != 0:
		class = G1c
	}
	switch {
	case kinds&realtime != 0:
		return class + Realtime
	case kinds&process != 0:
		return class + Process
	default:
		return class
	}
}
