// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cespare/xxhash/v2"
	jump "github.com/dgryski/go-jump"
	rendezvous "github.com/dgryski/go-rendezvous"
	"github.com/golang/groupcache/consistenthash"

	"github.com/assent-tx/assent/router/ring"
)

// algorithm is a way to say which node owns a key, after the nodes were these, one after the other.
type algorithm struct {
	name  string
	build func(t testing.TB, histories ...[]string) lookup
}

type lookup func(key string) string

// algorithms are ours, Maglev as the yardstick, and what others are known and used for. All hash keys with XXH64.
var algorithms = []algorithm{
	{"assent", func(t testing.TB, histories ...[]string) lookup { return ours(t, histories...).Owner }},
	{"maglev", func(_ testing.TB, histories ...[]string) lookup {
		nodes := histories[len(histories)-1]
		table := maglev(nodes)
		return func(key string) string { return nodes[table[xxhash.Sum64String(key)%maglevSize]] }
	}},
	{"jump", func(_ testing.TB, histories ...[]string) lookup {
		nodes := histories[len(histories)-1]
		return func(key string) string { return nodes[jump.Hash(xxhash.Sum64String(key), len(nodes))] }
	}},
	{"rendezvous", func(_ testing.TB, histories ...[]string) lookup {
		return rendezvous.New(histories[len(histories)-1], xxhash.Sum64String).Lookup
	}},
	// A node has 160 places on the circle, as in libketama.
	{"virtual-nodes", func(_ testing.TB, histories ...[]string) lookup {
		circle := consistenthash.New(160, func(data []byte) uint32 { return uint32(xxhash.Sum64(data)) })
		circle.Add(histories[len(histories)-1]...)
		return circle.Get
	}},
}

// suitable is how many partitions so many nodes should have, by the package's page.
func suitable(nodes int) int { return max(ring.DefaultPartitions, 64*nodes) }

func ours(t testing.TB, histories ...[]string) *ring.Ring {
	r := must(t)(ring.New(suitable(len(histories[0])), nil, nil))
	for _, names := range histories {
		var nodes []ring.Node
		for _, name := range names {
			nodes = append(nodes, ring.Node{Name: name, Weight: 1})
		}
		r = must(t)(r.Next(nodes, nil))
	}
	return r
}

// maglevSize is the small table of the paper: a prime above 65536.
const maglevSize = 65537

// maglev fills the table of Eisenbud et al. (NSDI 2016, section 3.4).
func maglev(nodes []string) []uint16 {
	table := make([]uint16, maglevSize)
	taken := make([]bool, maglevSize)
	at, skip := make([]uint64, len(nodes)), make([]uint64, len(nodes))
	for i, name := range nodes {
		at[i] = xxhash.Sum64String(name) % maglevSize
		skip[i] = xxhash.Sum64String("skip "+name)%(maglevSize-1) + 1
	}
	for filled := 0; ; {
		for i := range nodes {
			for taken[at[i]] {
				at[i] = (at[i] + skip[i]) % maglevSize
			}
			table[at[i]], taken[at[i]] = uint16(i), true
			if filled++; filled == maglevSize {
				return table
			}
		}
	}
}

const keyCount = 1_000_000

// forms are keys as somebody would make them, from numbers from 0 on.
var forms = []string{"key-%d", "user:%d", "order/%d", "%d", "session:%x"}

// millions are a million keys of each form.
var millions = sync.OnceValue(func() [][]string {
	all := make([][]string, len(forms))
	for f, form := range forms {
		for i := range keyCount {
			all[f] = append(all[f], fmt.Sprintf(form, i))
		}
	}
	return all
})

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("node-%d", i)
	}
	return all
}

// spread is what becomes of a million keys.
type spread struct {
	// peak is what the fullest node has, relative to the average: the mean over the forms of keys, since what it is for one of
	// them is a matter of luck.
	peak float64
	// join is how many keys moved when a node joined, relative to its fair share; leave is how many moved when one of those in
	// the middle left, relative to what it had.
	join, leave float64
	// stray is the part of all keys that moved, in one of both, though neither from nor to the node that changed.
	stray float64
}

// measure lets so many nodes join, each for itself: what one of a thousand gets is a matter of luck, too, by some 3 %.
func measure(t testing.TB, a algorithm, n, joins int) (s spread) {
	before := names(n)
	own := a.build(t, before)
	s.peak = peak(own, n)
	now, had := make([]string, keyCount), 0
	leaves := before[n/2]
	for i, key := range millions()[0] {
		if now[i] = own(key); now[i] == leaves {
			had++
		}
	}
	moved, stray := 0, 0
	for i := range joins {
		name := fmt.Sprintf("node-%d", n+i)
		m, s := changes(now, a.build(t, before, append(names(n), name)), name)
		moved, stray = moved+m, stray+s
	}
	s.join = float64(moved) * float64(n+1) / keyCount / float64(joins)
	s.stray = float64(stray) / keyCount / float64(joins)

	moved, stray = changes(now, a.build(t, before, slices.Delete(names(n), n/2, n/2+1)), leaves)
	s.leave = float64(moved) / float64(had)
	s.stray = max(s.stray, float64(stray)/keyCount)
	return s
}

// peak is what the fullest of n nodes has, relative to the average: the mean over the forms of keys.
func peak(own lookup, n int) (mean float64) {
	for _, keys := range millions() {
		most, count := 0, map[string]int{}
		for _, key := range keys {
			owner := own(key)
			count[owner]++
			most = max(most, count[owner])
		}
		mean += float64(most) * float64(n) / keyCount / float64(len(forms))
	}
	return mean
}

// changes counts the keys that moved, and those of them that moved neither from nor to a node.
func changes(before []string, after lookup, changed string) (moved, stray int) {
	for i, key := range millions()[0] {
		if owner := after(key); owner != before[i] {
			moved++
			if owner != changed && before[i] != changed {
				stray++
			}
		}
	}
	return moved, stray
}

// The figures that the package promises, of a million keys.
//
// A thousand nodes have a thousand keys each, give or take 32 by chance, so the fullest of them has some 10 % more than the
// average even if all own equally much of the circle. No table can do better than chance, of which jump hash is the measure:
// it shares exactly as a fair die does.
func TestSpread(t *testing.T) {
	for n, most := range map[int]float64{10: 1.02, 100: 1.04, 1000: 1.12} {
		s := measure(t, algorithms[0], n, 2)
		chance := peak(algorithms[2].build(t, names(n)), n)
		t.Logf("%d nodes, %d partitions: %+v; peak of jump hash %.4f", n, suitable(n), s, chance)
		if s.peak > most || s.peak > 1.01*chance || s.join > 1.03 || s.leave != 1 || s.stray != 0 {
			t.Errorf("%d nodes: %+v; peak should be %v at most, and is %v by chance", n, s, most, chance)
		}
	}
}
