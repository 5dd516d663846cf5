// SPDX-License-Identifier: Apache-2.0

package router

import "sync/atomic"

// gates are the partitions of one incarnation of a group, as one node has them: each lets work in or does not, and counts
// what is in hand.
//
// Invariant: only the goroutine of Run opens them, so that a gate which is shut, and has nothing in hand, stays so until that
// goroutine opens it.
type gates struct {
	incarnation uint64
	all         []gate
}

// gate is one partition's.
type gate struct {
	// word is gateOpen if work may begin, and how much is in hand: one word, so that whoever enters cannot miss that it is being
	// shut, and whoever shuts it sees everybody who has entered.
	word atomic.Uint64
	// leave takes one that has entered out again. It is made once, so that entering allocates nothing.
	leave func()
}

const gateOpen = 1 << 63

// newGates gives gates that are shut. Drained is called when the last has left a gate that is shut.
func newGates(incarnation uint64, partitions int, drained func(g *gates, p int)) *gates {
	g := &gates{incarnation, make([]gate, partitions)}
	for p := range g.all {
		one := &g.all[p]
		one.leave = func() {
			if one.exit() {
				drained(g, p)
			}
		}
	}
	return g
}

// enter counts one more, if the gate is open.
func (g *gate) enter() bool {
	for {
		word := g.word.Load()
		if word&gateOpen == 0 {
			return false
		}
		if g.word.CompareAndSwap(word, word+1) {
			return true
		}
	}
}

// exit counts one less, and tells whether that was the last one behind a gate that is shut.
func (g *gate) exit() (last bool) {
	for {
		word := g.word.Load()
		if word&^gateOpen == 0 {
			panic("router: leave was called more often than Enter had succeeded")
		}
		if g.word.CompareAndSwap(word, word-1) {
			return word == 1
		}
	}
}

func (g *gate) open() { g.word.Or(gateOpen) }

// shut lets nobody in any more.
func (g *gate) shut() { g.word.And(^uint64(gateOpen)) }

// clear tells whether the gate is shut and nothing is in hand.
func (g *gate) clear() bool { return g.word.Load() == 0 }

// inHand is how much is.
func (g *gate) inHand() int { return int(g.word.Load() &^ gateOpen) } //nolint:gosec // far less than 1<<63
