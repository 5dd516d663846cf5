// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

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
