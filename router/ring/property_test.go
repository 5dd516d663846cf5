// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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
			shuffled := slices.Clone(nodes)
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
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

func TestPropertyDiffIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from := drawRing(t, 20, anyWeight, true)
		nodes := drawNodes(t, 20, anyWeight)
		to := check(t)(from.Next(nodes, nil))
		table := owners(from)
		plan, last := Diff(from, to), -1
		for _, m := range plan.Moves {
			if m.Partition <= last || table[m.Partition] != m.From || m.From == m.To {
				t.Fatalf("%+v after partition %d, which %q owns", m, last, table[m.Partition])
			}
			table[m.Partition], last = m.To, m.Partition
		}
		if !slices.Equal(table, owners(to)) {
			t.Fatalf("the moves lead to %v, not %v", table, owners(to))
		}
		sum := 0
		for _, f := range plan.Flows() {
			sum += f.Partitions
		}
		if sum != len(plan.Moves) {
			t.Fatalf("flows of %d, moves of %d", sum, len(plan.Moves))
		}
	})
}

func TestPropertyFromOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 40, anyWeight, true)
		again := check(t)(FromOwners(r.Nodes(), r.Pins(), owners(r)))
		nodes := drawNodes(t, 40, anyWeight)
		pins := drawPins(t, r.Partitions(), nodes)
		a, b := check(t)(r.Next(nodes, pins)), check(t)(again.Next(nodes, pins))
		if !slices.Equal(owners(again), owners(r)) || !slices.Equal(owners(a), owners(b)) {
			t.Fatalf("%v became %v; the next %v and %v", owners(r), owners(again), owners(a), owners(b))
		}
	})
}

func TestPropertyOwners(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 20, anyWeight, true)
		key := rapid.String().Draw(t, "key")
		if r.Partition(key) != dumbPartition(key, r.Partitions()) {
			t.Fatalf("%q is in partition %d", key, r.Partition(key))
		}
		want := dumbOwners(r.Owner(key), r.Nodes(), r.Partition(key), true)
		n := rapid.IntRange(-1, 25).Draw(t, "n")
		got := r.Owners(key, n)
		if want = want[:max(0, min(n, len(want)))]; !slices.Equal(got, want) {
			t.Fatalf("%d owners of %q are %v; expected %v", n, key, got, want)
		}
		distinct(t, r, key, got)
	})
}

// distinct checks what is promised of owners.
func distinct(t *rapid.T, r *Ring, key string, got []string) {
	zones, all := map[string]bool{}, map[string]bool{}
	for _, n := range r.Nodes() {
		if n.Zone == "" {
			n.Zone = "of " + n.Name
		}
		if n.Weight > 0 || n.Name == r.Owner(key) {
			all[n.Zone] = true
		}
		if slices.Contains(got, n.Name) {
			zones[n.Zone] = true
		}
	}
	sorted := slices.Compact(slices.Sorted(slices.Values(got)))
	if len(sorted) != len(got) || len(zones) < min(len(got), len(all)) {
		t.Fatalf("%v: %d nodes, %d zones of %d", got, len(sorted), len(zones), len(all))
	}
	if len(got) > 0 && r.Owner(key) != "" && got[0] != r.Owner(key) {
		t.Fatalf("%v begins not with the owner, %s", got, r.Owner(key))
	}
}

// Keys that are placed one after another by Bounded leave no node with more than its bound.
func TestPropertyBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRing(t, 10, anyWeight, false)
		factor := rapid.Float64Range(1, 3).Draw(t, "factor")
		loads := map[string]float64{}
		weights := 0
		for _, n := range r.Nodes() {
			weights += n.Weight
		}
		popular := rapid.IntRange(1, 5).Draw(t, "popular keys")
		for i := range 60 {
			key := fmt.Sprint(i % popular)
			node := r.Bounded(key, factor, func(n string) float64 { return loads[n] })
			if node == "" {
				if weights == 0 {
					return
				}
				t.Fatal("nobody takes it")
			}
			loads[node]++
			first := dumbOwners(r.Owner(key), r.Nodes(), r.Partition(key), false)[0]
			if i == 0 && node != first {
				t.Fatalf("the first key goes to %s, not to %s", node, first)
			}
			for _, n := range r.Nodes() {
				if bound := factor*float64(i+1)*float64(n.Weight)/float64(weights) + 1; loads[n.Name] > bound {
					t.Fatalf("%s has %v of %d; its bound is %v", n.Name, loads[n.Name], i+1, bound)
				}
			}
		}
	})
}

// Whatever is asked, there is an answer, and no panic.
func TestPropertyAnyInput(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-c]?`), rapid.Just(strings.Repeat("x", 65)))
		nodes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Node {
			return Node{name.Draw(t, "name"), rapid.OneOf(rapid.Int(), anyWeight).Draw(t, "weight"), name.Draw(t, "zone")}
		}), 0, 3).Draw(t, "nodes")
		pins := rapid.MapOfN(rapid.IntRange(-2, 10), name, 0, 2).Draw(t, "pins")
		owned := rapid.SliceOfN(name, 0, 4).Draw(t, "owners")
		a, errNew := New(rapid.OneOf(rapid.Int(), rapid.IntRange(-1, 9)).Draw(t, "partitions"), nodes, pins)
		b, errOwners := FromOwners(nodes, pins, owned)
		for _, made := range []struct {
			r   *Ring
			err error
		}{{a, errNew}, {b, errOwners}, {&Ring{}, nil}} {
			if (made.r == nil) == (made.err == nil) {
				t.Fatalf("ring %v, error %v", made.r, made.err)
			}
			if made.err == nil {
				answers(t, made.r)
			}
		}
	})
}

func answers(t *rapid.T, r *Ring) {
	key, p, hash := rapid.String().Draw(t, "key"), rapid.Int().Draw(t, "partition"), rapid.Uint64().Draw(t, "hash")
	if q := rapid.IntRange(1, MaxPartitions).Draw(t, "of"); PartitionOf(hash, q) < 0 || PartitionOf(hash, q) >= q || PartitionOf(hash, p) < 0 {
		t.Fatalf("partition %d of %d", PartitionOf(hash, q), q)
	}
	owner := r.Owner(key)
	if at := r.OwnerOf(r.Partition(key)); at != owner || r.OwnerOf(-1) != "" || r.OwnerOf(r.Partitions()) != "" {
		t.Fatalf("%q is %s's and %s's", key, owner, at)
	}
	_ = r.OwnerOf(p)
	_ = r.Owners(key, p)
	_ = r.Bounded(key, float64(p), func(string) float64 { return float64(p) })
	_, _, _ = r.Balance(), Diff(nil, r), Diff(r, nil)
	var picture strings.Builder
	if err := r.WriteSVG(&picture); err != nil {
		t.Fatal(err)
	}
}
