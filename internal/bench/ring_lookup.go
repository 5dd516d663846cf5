// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/assent-tx/assent/router/ring"
)

// ringRow is a ring of so many nodes of one weight, and what is found out about it.
type ringRow struct {
	nodes, partitions int
	members           []ring.Node
	ring              *ring.Ring
	yardstick         *maglev

	lookup []lookupSample // a round each
	built  []float64      // milliseconds to make the ring anew, each
	next   []float64      // milliseconds to make the ring after a join or a leave, each

	// peaks and jumpPeaks are a round's each, with its own keys.
	peaks, jumpPeaks []float64
	join, leave      movement
	sink             int // what was looked up, so that it cannot be left out
}

// lookupSample is what one round found: nanoseconds and allocations of one lookup.
type lookupSample struct{ ns, yardstickNS, allocations float64 }

func newRingRow(nodes, partitions int) *ringRow {
	r := &ringRow{nodes: nodes, partitions: partitions}
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("node-%04d", i)
		r.members = append(r.members, ring.Node{Name: names[i], Weight: 1})
	}
	r.yardstick = newMaglev(names)
	return r
}

// builds is how often a ring is made anew in a round.
const builds = 3

// build makes the ring anew, and takes the time: that of the processor, where the system tells it and it is shorter, for nothing else runs in
// the process.
func (r *ringRow) build() (err error) {
	for range builds {
		runtime.GC() // what was before leaves no garbage to this one
		begun, spent := time.Now(), cpuTime()
		if r.ring, err = ring.New(r.partitions, r.members, nil); err != nil {
			return err
		}
		took := time.Since(begun)
		if spent = cpuTime() - spent; spent > 0 {
			took = min(took, spent)
		}
		r.built = append(r.built, milliseconds(int64(took)))
	}
	return nil
}

// lookupBatch is how many lookups are timed as one: few enough that their keys stay near to the processor, for what is compared are the
// lookups and not its memory.
const lookupBatch = 4096

func lookupKeys(keys []string) []string { return keys[:min(lookupBatch, len(keys))] }

// lookups times batches of the ring's and of the yardstick's in turns. The medians of the batches are the round's: what
// takes the processor away now and then spoils some batches only.
func (r *ringRow) lookups(keys []string, slice time.Duration) {
	var ours, yardstick []float64
	allocations := r.allocations(keys)
	end := time.Now().Add(slice)
	for len(ours) == 0 || time.Now().Before(end) {
		begun := time.Now()
		for _, key := range keys {
			r.sink += len(r.ring.Owner(key))
		}
		middle := time.Now()
		for _, key := range keys {
			r.sink += int(r.yardstick.node(key))
		}
		ours = append(ours, float64(middle.Sub(begun))/float64(len(keys)))
		yardstick = append(yardstick, float64(time.Since(middle))/float64(len(keys)))
	}
	r.lookup = append(r.lookup, lookupSample{median(ours), median(yardstick), allocations})
}

// allocations is how much one lookup allocates: the least of a few counts, for the process has other goroutines too.
func (r *ringRow) allocations(keys []string) float64 {
	least := uint64(1 << 62)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, key := range keys {
			r.sink += len(r.ring.Owner(key))
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.Mallocs-before.Mallocs)
	}
	return float64(least) / float64(len(keys))
}

// median is the mean of the two in the middle when the number of values is even, and 0 when there are none.
func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	n := len(values)
	if n == 0 {
		return 0
	}
	return (values[(n-1)/2] + values[n/2]) / 2
}
