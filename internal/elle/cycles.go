// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"cmp"
	"slices"
)

// shape is what a class of cycles looks like: one edge of a kind, and a way back by others.
type shape struct {
	class Class
	first kind
	back  kind
	// second: the second edge is of the first's kind, too. apart: no two edges of the first's kind are in a row, and there is more than one.
	second, apart bool
}

var shapes = []shape{
	{class: G0, first: ww, back: ww},
	{class: G1c, first: wr, back: ww | wr},
	{class: GSingle, first: rw, back: ww | wr},
	{class: GNonadjacent, first: rw, back: data, apart: true},
	{class: G2Item, first: rw, back: data, second: true},
}

// cycles finds cycles of each shape. Those that need the order in time are looked for only where there are none without it, and
// those that need that of all processes where there are none that need only that of each.
func (c *checker) cycles() {
	whole := c.graph.connected(all, nil, nil)
	var suspects []int32
	for node, of := range whole.of {
		if whole.size[of] > 1 {
			suspects = append(suspects, int32(node))
		}
	}
	if len(suspects) == 0 {
		return
	}
	within := func(from, to int32) bool { return whole.of[from] == whole.of[to] }
	s := &search{checker: c, seen: make([]bool, len(whole.of))}
	s.in(c.graph.connected(data, suspects, within), 0, "")
	s.in(c.graph.connected(data|process, suspects, within), process, Process)
	s.in(whole, process|realtime, Realtime)
	s.ensure(suspects, within)
}

// search is the search for cycles.
type search struct {
	*checker
	seen []bool // the node is of a component in which cycles were looked for
	walk walk
}

// in looks for cycles of each shape in the components, each of which has some of the edges in order if it is to be of interest.
func (s *search) in(cs *components, order kind, suffix string) {
	var interesting []int32
	for i, size := range cs.size {
		met := func(node int32) bool { return s.seen[node] }
		if size > 1 && !slices.ContainsFunc(cs.members(int32(i)), met) {
			interesting = append(interesting, int32(i))
		}
	}
	slices.SortStableFunc(interesting, func(a, b int32) int { return cmp.Compare(cs.size[a], cs.size[b]) })
	for _, shape := range shapes {
		shape.class += Class(suffix)
		shape.back |= order
		s.find(cs, interesting, shape)
	}
	for _, i := range interesting {
		for _, node := range cs.members(i) {
			s.seen[node] = true
		}
	}
}

// enough cycles of a class are found when there are so many for each that is reported: the shortest of them are.
const enough = 16

// find looks for cycles of one shape.
func (s *search) find(cs *components, interesting []int32, shape shape) {
	f := &finder{search: s, cs: cs, shape: shape, known: make(map[string]bool), work: s.work}
	within := func(from, to int32) bool { return cs.of[from] == cs.of[to] }
	var nodes []int32
	for _, i := range interesting {
		nodes = append(nodes, cs.members(i)...)
	}
	if len(nodes) == 0 {
		return
	}
	f.reach = s.graph.connected(shape.back, nodes, within)
	for _, i := range interesting {
		f.component(i)
		if f.over() {
			break
		}
	}
	if len(f.cycles) == 0 {
		return
	}
	slices.SortStableFunc(f.cycles, func(a, b cycle) int { return cmp.Compare(len(a), len(b)) })
	s.found.Counts[shape.class] += len(f.cycles)
	for _, found := range f.cycles[:min(len(f.cycles), s.limit)] {
		s.found.Anomalies = append(s.found.Anomalies, s.explain(shape.class, found))
	}
}

// cycle is steps, each from where the one before leads; the last leads to where the first begins.
type cycle []step

type step struct {
	from int32
	edge edge
}

// finder finds cycles of one shape.
type finder struct {
	*search
	cs     *components
	shape  shape
	reach  *components // by edges of the way back
	work   int
	cycles []cycle
	known  map[string]bool
}

// over: it has found enough, or worked enough.
func (f *finder) over() bool {
	if f.work <= 0 {
		f.found.Truncated = true
	}
	return f.work <= 0 || len(f.cycles) >= enough*f.limit
}

// component looks in one component.
func (f *finder) component(i int32) {
	for _, node := range f.cs.members(i) {
		if node >= f.graph.txs {
			continue
		}
		for _, e := range f.graph.from(node) {
			if e.kind == f.shape.first && f.cs.of[e.to] == i {
				f.begin(step{node, e})
			}
			if f.over() {
				return
			}
		}
	}
}

// begin looks for a way back from a first edge.
func (f *finder) begin(first step) {
	if !f.shape.second {
		f.back(cycle{first}, none)
		return
	}
	for _, e := range f.graph.from(first.edge.to) {
		if e.kind == f.shape.first && f.cs.of[e.to] == f.cs.of[first.from] && !f.over() {
			f.back(cycle{first, {first.edge.to, e}}, first.edge.to)
		}
	}
}

// back closes a cycle by a shortest way, which does not pass the node without.
func (f *finder) back(begun cycle, without int32) {
	home, from := begun[0].from, begun[len(begun)-1].edge.to
	found := begun
	if from != home {
		if f.reach.of[from] < f.reach.of[home] {
			f.work--
			return
		}
		way := f.walk.shortest(f, from, home, without)
		if way == nil {
			return
		}
		found = append(found, way...)
	}
	f.work--
	if f.shape.apart && !several(found, f.shape.first) {
		return
	}
	if name := found.name(); !f.known[name] {
		f.known[name] = true
		f.cycles = append(f.cycles, found)
	}
}

// several: there is more than one edge of the kind.
func several(c cycle, k kind) bool {
	n := 0
	for i := range c {
		if c[i].edge.kind == k {
			n++
		}
	}
	return n > 1
}

// name tells cycles of different transactions apart.
func (c cycle) name() string {
	nodes := make([]int32, len(c))
	for i := range c {
		nodes[i] = c[i].from
	}
	slices.Sort(nodes)
	name := make([]byte, 0, 4*len(nodes))
	for _, n := range nodes {
		name = append(name, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
	}
	return string(name)
}
