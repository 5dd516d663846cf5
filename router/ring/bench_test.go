// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/assent-tx/assent/router/ring"
)

var counts = []int{10, 100, 1000}

// some are so many of a million keys that lookups do not wait for the keys themselves: it is a power of two.
const some = 1 << 13

var sink int

// BenchmarkLookup: ns/op is a lookup's time. The metrics are those of spread.
func BenchmarkLookup(b *testing.B) {
	for _, n := range counts {
		for _, a := range algorithms {
			b.Run(fmt.Sprintf("%d/%s", n, a.name), func(b *testing.B) {
				own, keys := a.build(b, names(n)), millions()[0][:some]
				i := 0
				for b.Loop() {
					sink += len(own(keys[i%some]))
					i++
				}
				joins := 8
				if a.name == "rendezvous" {
					joins = 1 // or it takes all day
				}
				s := measure(b, a, n, joins)
				b.ReportMetric(s.peak, "peak/avg")
				b.ReportMetric(s.join, "join-moved/optimal")
				b.ReportMetric(s.leave, "leave-moved/optimal")
				b.ReportMetric(100*s.stray, "stray-%")
			})
		}
	}
}

// BenchmarkYardstick measures lookups of ours and of Maglev in turns, so that both have the same machine: an op is as many
// of each as there are keys, and what is reported are medians, so that it does not matter what else the machine does now and
// then. Maglev is what it is at least: the hash of the key, and one index into a table of 65537; it does not even look up
// the node's name.
func BenchmarkYardstick(b *testing.B) {
	for _, n := range counts {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r, table, keys := ours(b, names(n)), maglev(names(n)), millions()[0][:some]
			var mine, theirs []time.Duration
			for b.Loop() {
				start := time.Now()
				for _, key := range keys {
					sink += len(r.Owner(key))
				}
				between := time.Now()
				for _, key := range keys {
					sink += int(table[xxhash.Sum64String(key)%maglevSize])
				}
				mine, theirs = append(mine, between.Sub(start)), append(theirs, time.Since(between))
			}
			slices.Sort(mine)
			slices.Sort(theirs)
			own, maglev := float64(mine[len(mine)/2]), float64(theirs[len(theirs)/2])
			b.ReportMetric(own/some, "ns/lookup")
			b.ReportMetric(maglev/some, "ns/maglev")
			b.ReportMetric(own/maglev, "×maglev")
		})
	}
}

// BenchmarkChange: how long a new ring takes, from nothing, when a node joins, and when one leaves.
func BenchmarkChange(b *testing.B) {
	for _, n := range counts {
		for _, partitions := range slices.Compact([]int{suitable(n), ring.MaxPartitions}) {
			nodes := members(n)
			before := must(b)(ring.New(partitions, nodes, nil))
			for what, change := range map[string]func() (*ring.Ring, error){
				"new":   func() (*ring.Ring, error) { return ring.New(partitions, nodes, nil) },
				"join":  func() (*ring.Ring, error) { return before.Next(members(n+1), nil) },
				"leave": func() (*ring.Ring, error) { return before.Next(members(n-1), nil) },
			} {
				b.Run(fmt.Sprintf("%d/%d/%s", n, partitions, what), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						must(b)(change())
					}
				})
			}
		}
	}
}

// BenchmarkOwners: the places of three copies, and a lookup under a bound.
func BenchmarkOwners(b *testing.B) {
	for _, n := range counts {
		r := must(b)(ring.New(suitable(n), members(n), nil))
		keys := millions()[0][:some]
		b.Run(fmt.Sprintf("%d/three", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				sink += len(r.Owners(keys[i%some], 3))
			}
		})
		b.Run(fmt.Sprintf("%d/bounded", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				sink += len(r.Bounded(keys[i%some], 1.25, func(string) float64 { return 1 }))
			}
		})
	}
}
