// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"
	"testing"
)

// busy is a group in the middle of a rebalance: 4 nodes own all, a fifth takes its part, and a batch is under way.
func busy(b testing.TB) (before, after *Record, view *View) {
	r, err := New("g", 100, Settings{Kind: HandOff})
	if err != nil {
		b.Fatal(err)
	}
	v := &View{Nodes: map[string]Presence{}, Ended: map[string]int64{}}
	join := func(i int) {
		name := fmt.Sprint("accounts-", i)
		v.Nodes[name] = Presence{V: Version, Session: fmt.Sprint("session-", i), Weight: 1, Incarnation: 100, Revision: uint64(i)}
	}
	for i := range 4 {
		join(i + 1)
	}
	r, _ = Decide(r, v)
	join(5)
	r, _ = Decide(r, v)
	for _, m := range r.Moving {
		said := v.Nodes[r.Owner(m.Partition)]
		said.Released = append(said.Released, m)
		v.Nodes[r.Owner(m.Partition)] = said
	}
	next, _ := Decide(r, v)
	return r, next, v
}

func BenchmarkDecode(b *testing.B) {
	r, _, _ := busy(b)
	data := r.Encode()
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	r, _, v := busy(b)
	for b.Loop() {
		if next, _ := Decide(r, v); next == nil {
			b.Fatal("nothing")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r, _, _ := busy(b)
	for b.Loop() {
		r.Encode()
	}
}

// BenchmarkHolder is what an epoch costs a node beside its reading.
func BenchmarkHolder(b *testing.B) {
	before, after, _ := busy(b)
	h := NewHolder("accounts-1")
	h.Ring(before)
	h.Joined("session-1")
	for _, step := range h.Take() {
		if step.Kind == AskAcquire {
			h.Done(step.Partition, true)
		}
	}
	h.Take()
	epoch := before.Epoch
	for b.Loop() {
		epoch++
		next := *after
		next.Epoch = epoch
		h.Ring(&next)
	}
}
