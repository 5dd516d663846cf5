// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Skipping what cannot be better changes nothing.
func TestPropertyChoicesAreTheBest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.OneOf(rapid.IntRange(1, few), rapid.IntRange(few+1, 300)).Draw(t, "nodes")
		names := rapid.Uint64().Draw(t, "names")
		weights := rapid.SampledFrom([]func(i int) int{
			func(int) int { return 1 },
			func(i int) int { return 1 + i*i%MaxWeight },
			func(i int) int { return 1 + (MaxWeight-1)*(i%100/99) },
			func(i int) int { return []int{1, 2, 4, 8}[i%4] },
		}).Draw(t, "weights")
		quotas := make([]quota, n)
		for i := range quotas {
			quotas[i] = quota{node: i, weight: weights(i), seed: Hash(fmt.Sprint(names, i)), target: 1}
		}
		wanted := rapid.SliceOfN(rapid.Bool(), 1, 50).Draw(t, "wanted")
		got := newChooser(quotas).all(wanted)
		for p, is := range wanted {
			if !is {
				continue
			}
			if want := bestOf(p, quotas); len(got) == 0 || got[0] != want {
				t.Fatalf("partition %d: %+v; expected %+v", p, got, want)
			}
			got = got[1:]
		}
		if len(got) > 0 {
			t.Fatalf("not asked for: %v", got)
		}
	})
}

func bestOf(p int, quotas []quota) choice {
	k := keysOf(p)
	var all []choice
	for _, q := range quotas {
		draw, weight := k.draw(q.seed), uint64(q.weight)
		all = append(all, choice{score(draw, weight), draw, weight, int32(p), int32(q.node)})
	}
	return slices.MinFunc(all, func(a, b choice) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(b.draw, a.draw))
	})
}

func TestPropertyHopelessDrawsScoreWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heavy := rapid.Uint64Range(1, MaxWeight).Draw(t, "weight")
		light := rapid.Uint64Range(1, heavy).Draw(t, "lighter")
		best := score(rapid.OneOf(rapid.Uint64(), rapid.Uint64Min(favourite)).Draw(t, "best"), heavy)
		none := hopeless(best, light)
		draw := rapid.OneOf(rapid.Just(none), rapid.Uint64Max(none)).Draw(t, "draw")
		if none > 0 && score(draw, light) <= best {
			t.Fatalf("%x with weight %d scores %d, no worse than %d", draw, light, score(draw, light), best)
		}
	})
}

func TestPropertyCostFallsWithTheDraw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.OneOf(rapid.Uint64(), rapid.Uint64Min(favourite)).Draw(t, "draw")
		b := rapid.Uint64Min(a).Draw(t, "greater")
		if cost(a) < cost(b) || cost(a) < ^a>>32 {
			t.Fatalf("%x costs %d, %x costs %d", a, cost(a), b, cost(b))
		}
		exact := 64 - math.Log2(float64(a|1))
		if got := float64(cost(a)) / (1 << 32); math.Abs(got-exact) > 0.001*exact+1e-6 {
			t.Fatalf("%x costs %v, exactly %v", a, got, exact)
		}
	})
}

// Each choice comes before the next, though each but the first field says otherwise.
func TestOrderOfChoices(t *testing.T) {
	order := []choice{
		{score: 1, draw: 1, partition: 9, weight: 1},
		{score: 2, draw: 7, partition: 9, weight: 1},
		{score: 2, draw: 6, partition: 3, weight: 1},
		{score: 2, draw: 6, partition: 4, weight: 3},
		{score: 2, draw: 6, partition: 4, weight: 2},
	}
	for i := range order {
		for j := range order {
			if got := order[i].before(&order[j]); got != (i < j) {
				t.Errorf("%+v before %+v: %v", order[i], order[j], got)
			}
		}
	}
	shuffled := []choice{order[3], order[0], order[4], order[2], order[1]}
	q := newQueue(shuffled)
	for i := range order {
		if got := *q.first(); got != order[i] {
			t.Errorf("number %d is %+v", i, got)
		}
		q.pop()
	}
}

func TestTables(t *testing.T) {
	if log2 != dumbTable {
		t.Errorf("logarithms are %v", log2)
	}
	for bits, place := range favouritePlaces {
		a, b := uint8(bits)<<1|1, uint8(bits)>>3
		if got := (a*place + b) % block; got != block-1 {
			t.Errorf("place %d for %07b has the top %d", place, bits, got)
		}
	}
}

// Of sixteen partitions every node draws each first digit once, and all draws together are even.
func TestDrawsAreEven(t *testing.T) {
	const nodes, partitions = 64, 4096
	var ones [64]int
	for n := range nodes {
		seed := Hash(fmt.Sprint(n))
		for first := 0; first < partitions; first += block {
			seen := 0
			for p := first; p < first+block; p++ {
				k := keysOf(p)
				draw := k.draw(seed)
				if draw != dumbDraw(fmt.Sprint(n), p) {
					t.Fatalf("node %d draws %x for partition %d", n, draw, p)
				}
				seen |= 1 << (draw >> 60)
				for bit := range ones {
					ones[bit] += int(draw >> bit & 1)
				}
			}
			if seen != 0xffff {
				t.Fatalf("node %d, partitions from %d on: %016b", n, first, seen)
			}
		}
	}
	for bit, n := range ones {
		// Half of them, within five standard deviations.
		if math.Abs(float64(n)-nodes*partitions/2) > 5*math.Sqrt(nodes*partitions)/2 {
			t.Errorf("bit %d is set in %d draws of %d", bit, n, nodes*partitions)
		}
	}
}

// Nodes that lose a partition lose it to all others alike: who comes second does not hang on who comes first.
func TestSecondChoicesAreEven(t *testing.T) {
	const nodes, partitions = 8, 65536
	var pairs [nodes][nodes]float64
	var quotas []quota
	for i := range nodes {
		quotas = append(quotas, quota{node: i, weight: 1, seed: Hash(fmt.Sprintf("node-%d", i))})
	}
	for p := range partitions {
		first := bestOf(p, quotas).node
		second := bestOf(p, slices.Concat(quotas[:first], quotas[first+1:])).node
		pairs[first][second]++
	}
	sum, expected := 0.0, float64(partitions)/(nodes*(nodes-1))
	for i := range nodes {
		for j := range nodes {
			if i != j {
				sum += (pairs[i][j] - expected) * (pairs[i][j] - expected) / expected
			}
		}
	}
	// Chi square with 55 degrees of freedom: it is above 93 once in a thousand times for numbers that are really random.
	if sum > 93 {
		t.Errorf("chi square is %.1f: %v", sum, pairs)
	}
}
