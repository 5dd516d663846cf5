// SPDX-License-Identifier: Apache-2.0

package elle

import "slices"

// walk finds shortest ways, in transactions: an instant costs nothing. Its memory is used again. A place is a node, twice: having
// come to it by an edge of the kind that must not be twice in a row, or by another.
type walk struct {
	round  int32
	places []place
	now    []int32
	next   []int32
}

type place struct {
	round    int32 // in which the rest was written
	distance int32
	before   int32 // a place
	via      int32 // an edge, by its index
	done     bool
}

// shortest gives a shortest way between two transactions, nil if there is none or the finder's work is over.
func (w *walk) shortest(f *finder, from, to, without int32) []step {
	if w.places == nil {
		w.places = make([]place, 2*f.graph.nodes())
	}
	w.round++
	w.now, w.next = w.now[:0], w.next[:0]
	start := 2 * from
	if f.shape.apart {
		start++ // by the first edge
	}
	w.places[start] = place{round: w.round, before: none}
	w.now = append(w.now, start)
	for distance := int32(0); len(w.now) > 0; distance++ {
		for i := 0; i < len(w.now); i++ { // it grows
			at := w.now[i]
			p := &w.places[at]
			if p.done || p.distance != distance {
				continue
			}
			p.done = true
			if at/2 == to && (!f.shape.apart || at%2 == 0) {
				return w.way(f.graph, at)
			}
			w.expand(f, at, to, without)
		}
		if f.work <= 0 {
			return nil
		}
		w.now, w.next = w.next, w.now[:0]
	}
	return nil
}

// expand looks at the edges of a place.
func (w *walk) expand(f *finder, at, home, without int32) {
	g := f.graph
	node, first := at/2, g.start[at/2]
	for i, e := range g.from(node) {
		f.work--
		switch {
		case e.kind&f.shape.back == 0, e.to == without,
			f.cs.of[e.to] != f.cs.of[node],
			f.reach.of[e.to] < f.reach.of[home],
			f.shape.apart && at%2 == 1 && e.kind == f.shape.first:
			continue
		}
		to, cost := 2*e.to, int32(1)
		if f.shape.apart && e.kind == f.shape.first {
			to++
		}
		if node >= g.txs {
			cost = 0
		}
		w.put(to, w.places[at].distance+cost, at, first+int32(i), cost == 0)
	}
}

// put notes that a place can be reached, if it could not be as well before.
func (w *walk) put(to, distance, before, via int32, now bool) {
	p := &w.places[to]
	if p.round == w.round && (p.done || p.distance <= distance) {
		return
	}
	*p = place{round: w.round, distance: distance, before: before, via: via}
	if now {
		w.now = append(w.now, to)
	} else {
		w.next = append(w.next, to)
	}
}

// way is how a place was reached, with instants left out.
func (w *walk) way(g *graph, at int32) []step {
	var steps []step
	for end := none; w.places[at].before != none; at = w.places[at].before {
		e, from := g.edges[w.places[at].via], w.places[at].before/2
		if e.to < g.txs {
			end = e.to
		}
		if from < g.txs {
			e.to = end
			steps = append(steps, step{from, e})
		}
	}
	slices.Reverse(steps)
	return steps
}
