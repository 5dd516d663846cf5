// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/assent-tx/assent/router/ring"
)

// movement is what nodes that come, or go, make move, in keys.
type movement struct {
	moved   int
	optimal float64 // the least that has to move for the nodes to have equal parts
	stray   int     // moved between nodes that neither came nor went
}

// balance finds the most keys of a node over the average, and the same with jump hash.
func (r *ringRow) balance(keys []string) {
	owned, jumped := make(map[string]int, r.nodes), make([]int, r.nodes)
	for _, key := range keys {
		owned[r.ring.Owner(key)]++
		jumped[jump(ring.Hash(key), r.nodes)]++
	}
	average := float64(len(keys)) / float64(r.nodes)
	most := 0
	for _, n := range owned {
		most = max(most, n)
	}
	r.peaks = append(r.peaks, float64(most)/average)
	r.jumpPeaks = append(r.jumpPeaks, float64(slices.Max(jumped))/average)
}

// movements is how many nodes come, one after the other, and how many go: enough of them that chance has little part in it, and not more
// than a ring takes.
func (r *ringRow) movements() int { return max(5, r.nodes/50) }

// movement finds what moves when nodes come, and when nodes go.
func (r *ringRow) movement(keys []string) error {
	within := make([]int, r.partitions) // keys by partition
	for _, key := range keys {
		within[r.ring.Partition(key)]++
	}
	current := r.ring
	for i := range r.movements() {
		came := fmt.Sprintf("new-%d", i)
		nodes := append(current.Nodes(), ring.Node{Name: came, Weight: 1})
		next, plan, err := r.change(current, nodes)
		if err != nil {
			return err
		}
		r.join.optimal += float64(len(keys)) / float64(len(nodes))
		r.join.add(plan, within, func(m ring.Move) bool { return m.To == came })
		current = next
	}
	current = r.ring
	for i := range r.movements() {
		nodes := current.Nodes()
		gone := nodes[i*len(nodes)/r.movements()].Name
		nodes = slices.DeleteFunc(nodes, func(n ring.Node) bool { return n.Name == gone })
		next, plan, err := r.change(current, nodes)
		if err != nil {
			return err
		}
		for partition, n := range within {
			if current.OwnerOf(partition) == gone {
				r.leave.optimal += float64(n)
			}
		}
		r.leave.add(plan, within, func(m ring.Move) bool { return m.From == gone })
		current = next
	}
	return nil
}

// change makes the next ring, and takes the time.
func (r *ringRow) change(current *ring.Ring, nodes []ring.Node) (*ring.Ring, ring.Plan, error) {
	begun := time.Now()
	next, err := current.Next(nodes, nil)
	if err != nil {
		return nil, ring.Plan{}, err
	}
	r.next = append(r.next, milliseconds(int64(time.Since(begun))))
	return next, ring.Diff(current, next), nil
}

// add counts the keys that a plan moves; those that it need not move are stray.
func (m *movement) add(plan ring.Plan, within []int, needed func(ring.Move) bool) {
	for _, move := range plan.Moves {
		m.moved += within[move.Partition]
		if !needed(move) {
			m.stray += within[move.Partition]
		}
	}
}

func (m *movement) ratio() float64 { return ratio(float64(m.moved), m.optimal) }
