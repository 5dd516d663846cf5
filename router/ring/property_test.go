// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawNodes draws nodes with different names out of few, so that many are the same from one draw to the next.
func drawNodes(t *rapid.T, most int, weight *rapid.Generator[int]) []Node {
	numbers := rapid.SliceOfNDistinct(rapid.IntRange(0, 2*most), 0, most, rapid.ID[int]).Draw(t, "nodes")
	var nodes []Node
	for _, i := range numbers {
		nodes = append(nodes, Node{
			Name:   fmt.Sprintf("n%d", i),
			Weight: weight.Draw(t, "weight"),
			Zone:   rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "zone"),
		})
	}
	return nodes
}

var (
	anyWeight   = rapid.OneOf(rapid.Just(1), rapid.IntRange(0, 4), rapid.IntRange(0, MaxWeight))
	someWeight  = rapid.OneOf(rapid.Just(1), rapid.IntRange(1, 4), rapid.IntRange(1, MaxWeight))
	equalWeight = rapid.Just(1)
)

// drawPins draws pins to nodes of a list.
func drawPins(t *rapid.T, partitions int, nodes []Node) Pins {
	pins := Pins{}
	if len(nodes) == 0 {
		return pins
	}
	for range rapid.IntRange(0, min(partitions, 12)).Draw(t, "pins") {
		p := rapid.IntRange(0, partitions-1).Draw(t, "pinned")
		pins[p] = rapid.SampledFrom(nodes).Draw(t, "to").Name
	}
	return pins
}

// drawRing draws a ring with a history, and its owners.
func drawRing(t *rapid.T, most int, weight *rapid.Generator[int], pinned bool) *Ring {
	partitions := rapid.OneOf(rapid.IntRange(1, 64), rapid.IntRange(1, 600)).Draw(t, "partitions")
	var pins Pins
	r := check(t)(New(partitions, nil, nil))
	for range rapid.IntRange(1, 4).Draw(t, "changes") {
		nodes := drawNodes(t, most, weight)
		if pinned {
			pins = drawPins(t, partitions, nodes)
		}
		r = check(t)(r.Next(nodes, pins))
	}
	return r
}

func check(t rapid.TB) func(r *Ring, err error) *Ring {
	return func(r *Ring, err error) *Ring {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func owners(r *Ring) (names []string) {
	for p := range r.Partitions() {
		names = append(names, r.OwnerOf(p))
	}
	return names
}

func differences(a, b []string) (n int) {
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

func TestPropertySecondImplementation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 48).Draw(t, "partitions")
		r := check(t)(New(partitions, nil, nil))
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			nodes := drawNodes(t, 40, anyWeight)
			pins := drawPins(t, partitions, nodes)
			want := dumbNext(owners(r), nodes, pins)
			r = check(t)(r.Next(nodes, pins))
			if got := owners(r); !slices.Equal(got, want) {
				t.Fatalf("nodes %+v\npins  %v\ngives    %v\nexpected %v", nodes, pins, got, want)
			}
		}
	})
}

// The order of nodes, and of pins in a map, does not matter; nor does who asks.
func TestPropertyOrderOfListing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawRing(t, 60, anyWeight, true)
		nodes := drawNodes(t, 60, anyWeight)
		pins := drawPins(t, before.Partitions(), nodes)
		want := owners(check(t)(before.Next(nodes, pins)))
		for range 3 {
			shuffled := rapid.Permutation(nodes).Draw(t, "listed")
			if got := owners(check(t)(before.Next(shuffled, pins))); !slices.Equal(got, want) {
				t.Fatalf("%+v\ngives    %v\nexpected %v", shuffled, got, want)
			}
		}
	})
}

// Without pins each count is the floor or the ceiling of the node's share.
func TestPropertyBalance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 80, anyWeight, false)
		b := r.Balance()
		weights, sum := 0, b.Unowned
		for _, n := range b.Nodes {
			weights += n.Weight
			sum += n.Partitions
		}
		if sum != r.Partitions() || weights > 0 && b.Unowned > 0 {
			t.Fatalf("%d partitions of %d are counted, %d are nobody's", sum, r.Partitions(), b.Unowned)
		}
		for _, n := range b.Nodes {
			if weights == 0 {
				break
			}
			floor := r.Partitions() * n.Weight / weights
			ceiling := (r.Partitions()*n.Weight + weights - 1) / weights
			if n.Partitions < floor || n.Partitions > ceiling {
				t.Fatalf("%+v; the share is %d to %d", n, floor, ceiling)
			}
		}
	})
}

// Pins are kept, whatever the quota.
func TestPropertyPins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 8, anyWeight, true)
		weight := map[string]int{}
		for _, n := range r.Nodes() {
			weight[n.Name] = n.Weight
		}
		for p, name := range r.Pins() {
			if got := r.OwnerOf(p); weight[name] > 0 && got != name {
				t.Fatalf("partition %d is pinned to %s and owned by %q", p, name, got)
			}
		}
	})
}

// No other table that keeps the pins and the quota has fewer differences from the one before.
func TestPropertyLeastMovement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 6).Draw(t, "partitions")
		r := check(t)(New(partitions, nil, nil))
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			nodes := drawNodes(t, 3, anyWeight)
			pins := drawPins(t, partitions, nodes)
			next := check(t)(r.Next(nodes, pins))
			if got, want := len(Diff(r, next).Moves), leastMoves(owners(r), nodes, pins); got != want {
				t.Fatalf("from %v to %v are %d moves; %d would do\nnodes %+v pins %v", owners(r), owners(next), got, want, nodes, pins)
			}
			r = next
		}
	})
}

// leastMoves tries all tables.
func leastMoves(before []string, nodes []Node, pins Pins) int {
	d := &dumbRing{owners: make([]string, len(before)), nodes: map[string]Node{}, pinned: map[int]bool{}, target: map[string]int{}}
	names := []string{}
	for _, n := range nodes {
		if n.Weight > 0 {
			d.nodes[n.Name] = n
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return differences(before, d.owners)
	}
	for p, name := range pins {
		if _, there := d.nodes[name]; there {
			d.owners[p], d.pinned[p] = name, true
		}
	}
	rest, weights, sharing := d.capped()
	least := len(before) + 1
	var try func(p int)
	try = func(p int) {
		if p < len(before) {
			for _, name := range names {
				if !d.pinned[p] {
					d.owners[p] = name
					try(p + 1)
				} else if d.owners[p] == name {
					try(p + 1)
				}
			}
			return
		}
		for _, name := range names {
			owned, _ := d.count(name)
			if n, shares := sharing[name]; shares {
				if share := rest * n.Weight; owned < share/weights || owned > (share+weights-1)/weights {
					return
				}
			} else if owned != d.target[name] {
				return
			}
		}
		least = min(least, differences(before, d.owners))
	}
	try(0)
	return least
}

// change is a ring and what follows it when one node joins, leaves or gets another weight.
func change(t *rapid.T, weight *rapid.Generator[int]) (before, after *Ring, changed string) {
	partitions := rapid.OneOf(rapid.IntRange(1, 64), rapid.IntRange(1, 2000)).Draw(t, "partitions")
	nodes := drawNodes(t, 60, weight)
	before = check(t)(New(partitions, nodes, nil))
	for range rapid.IntRange(0, 3).Draw(t, "history") {
		nodes = drawNodes(t, 60, weight)
		before = check(t)(before.Next(nodes, nil))
	}
	now := slices.Clone(nodes)
	what := rapid.SampledFrom([]string{"join", "leave", "weight"}).Draw(t, "what")
	if len(now) == 0 || what == "join" {
		n := Node{Name: "joins", Weight: someWeight.Draw(t, "its weight")}
		return before, check(t)(before.Next(append(now, n), nil)), n.Name
	}
	i := rapid.IntRange(0, len(now)-1).Draw(t, "which")
	changed = now[i].Name
	if what == "leave" {
		now = slices.Delete(now, i, i+1)
	} else {
		now[i].Weight = anyWeight.Draw(t, "new weight")
	}
	return before, check(t)(before.Next(now, nil)), changed
}

// Stray movement, between nodes that did not change, is only corrections, of which there is at most one a node.
func TestPropertyCorrectionsAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after, changed := change(t, anyWeight)
		stray := 0
		for _, m := range Diff(before, after).Moves {
			if m.From != changed && m.To != changed && m.From != "" && m.To != "" {
				stray++
			}
		}
		plan := Diff(before, after)
		if stray != plan.Corrections {
			t.Fatalf("%d stray moves; %d are counted as corrections", stray, plan.Corrections)
		}
		if stray > len(before.Nodes()) {
			t.Fatalf("%d corrections for %d nodes", stray, len(before.Nodes()))
		}
	})
}

// There are no corrections if the nodes that do not change have one weight, whatever the one has that does.
func TestPropertyNoCorrectionsForEqualWeights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before, after, changed := change(t, equalWeight)
		if plan := Diff(before, after); plan.Corrections != 0 {
			t.Fatalf("%s changes: %d corrections", changed, plan.Corrections)
		}
	})
}

// What a node was given when it joined is all that moves when it leaves again, if that needs no correction.
func TestPropertyAddThenRemove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := drawRing(t, 60, equalWeight, false)
		nodes := before.Nodes()
		added := check(t)(before.Next(append(slices.Clone(nodes), Node{Name: "added", Weight: someWeight.Draw(t, "weight")}), nil))
		removed := check(t)(added.Next(nodes, nil))
		for p := range before.Partitions() {
			if added.OwnerOf(p) != "added" && (added.OwnerOf(p) != before.OwnerOf(p) || added.OwnerOf(p) != removed.OwnerOf(p)) {
				t.Fatalf("partition %d: %q, %q, %q", p, before.OwnerOf(p), added.OwnerOf(p), removed.OwnerOf(p))
			}
		}
	})
}

func TestPropertyNothingChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 60, anyWeight, true)
		if plan := Diff(r, check(t)(r.Next(r.Nodes(), r.Pins()))); len(plan.Moves) > 0 {
			t.Fatalf("%d moves to the same nodes and pins: %v", len(plan.Moves), plan.Moves)
		}
	})
}
