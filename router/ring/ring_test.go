// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// members are n nodes of one weight.
func members(n int) []ring.Node {
	nodes := make([]ring.Node, n)
	for i := range nodes {
		nodes[i] = ring.Node{Name: fmt.Sprintf("node-%d", i), Weight: 1}
	}
	return nodes
}

func must(t testing.TB, r *ring.Ring, err error) *ring.Ring {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJoinMovesOnlyToTheNewNode(t *testing.T) {
	r, err := ring.New(ring.DefaultPartitions, members(10), nil)
	before := must(t, r, err)
	r, err = before.Next(members(11), nil)
	plan := ring.Diff(before, must(t, r, err))
	if len(plan.Moves) != ring.DefaultPartitions/11 {
		t.Errorf("%d partitions moved; expected %d", len(plan.Moves), ring.DefaultPartitions/11)
	}
	for _, m := range plan.Moves {
		if m.To != "node-10" {
			t.Errorf("%+v, though neither is new", m)
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	r, err := ring.New(ring.DefaultPartitions, members(100), nil)
	r = must(t, r, err)
	key := "a key"
	if n := testing.AllocsPerRun(1000, func() { _, _ = r.Owner(key), r.Partition(key) }); n != 0 {
		t.Errorf("%v allocations a lookup", n)
	}
}

func TestBadInput(t *testing.T) {
	if _, err := ring.New(0, nil, nil); !errors.Is(err, ring.ErrInvalid) {
		t.Errorf("no partitions: %v", err)
	}
}
