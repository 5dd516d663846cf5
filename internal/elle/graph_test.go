// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"math/rand/v2"
	"testing"
)

// Components are what a plain search says: nodes that can be reached from each other, numbered so that no edge leads to a greater number.
func TestComponents(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		n := 1 + r.Int32N(12)
		var s sketch
		reach := make([][]bool, n)
		for i := range reach {
			reach[i] = make([]bool, n)
			reach[i][i] = true
		}
		for range r.IntN(24) {
			from, to := r.Int32N(n), r.Int32N(n)
			s.add(from, edge{to: to, kind: ww})
			reach[from][to] = true
		}
		for k := range n {
			for i := range n {
				for j := range n {
					reach[i][j] = reach[i][j] || reach[i][k] && reach[k][j]
				}
			}
		}
		cs := s.graph(n, n).connected(ww, nil, nil)
		for i := range n {
			for j := range n {
				if together := reach[i][j] && reach[j][i]; together != (cs.of[i] == cs.of[j]) {
					t.Fatalf("seed %d: nodes %d and %d: together %v, components %d and %d", seed, i, j, together, cs.of[i], cs.of[j])
				}
				if reach[i][j] && cs.of[j] > cs.of[i] {
					t.Fatalf("seed %d: %d leads to %d, whose component has a greater number", seed, i, j)
				}
			}
		}
		total := int32(0)
		for i := range cs.size {
			total += int32(len(cs.members(int32(i))))
		}
		if total != n {
			t.Fatalf("seed %d: the components have %d of %d nodes", seed, total, n)
		}
	}
}

// The order in time reaches over whatever happens in between.
func TestRealtimeFar(t *testing.T) {
	b := NewBuilder()
	one := int64(1)
	do := func(process int32, ops ...Operation) {
		begin := make([]Operation, len(ops))
		for i, o := range ops {
			if begin[i] = o; o.Op == Read {
				begin[i].Values = nil
			}
		}
		for _, e := range []Event{{Type: Invoke, Process: process, Operations: begin}, {Type: OK, Process: process, Operations: ops}} {
			if err := b.Add(&e); err != nil {
				t.Fatal(err)
			}
		}
	}
	do(1, Operation{Op: Append, Key: "x", Value: &one})
	for i := range int32(50) {
		do(2+i, Operation{Op: Read, Key: "y", Values: []int64{}})
	}
	do(99, Operation{Op: Read, Key: "x", Values: []int64{}})
	do(100, Operation{Op: Read, Key: "x", Values: []int64{1}})
	h, err := b.History()
	if err != nil {
		t.Fatal(err)
	}
	r := Check(h, Options{})
	if len(r.Counts) != 1 || r.Counts[GSingle+Realtime] != 1 || len(r.Anomalies[0].Transactions) != 2 {
		t.Errorf("found %v, want one %s of two transactions:\n%s", r.Counts, GSingle+Realtime, textOf(t, r))
	}
	if !r.Levels[1].Holds || r.Levels[0].Holds {
		t.Errorf("%+v: want serializable, and not strict", r.Levels)
	}
}
