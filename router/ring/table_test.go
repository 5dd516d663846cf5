// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// A table of numbers is the table of names that they stand for, by the order of the names and not of the list.
func TestFromTable(t *testing.T) {
	nodes := []ring.Node{{Name: "c", Weight: 1}, {Name: "a", Weight: 2, Zone: "z"}, {Name: "b"}}
	pins := ring.Pins{2: "b", 3: "elsewhere"}
	r, err := ring.FromTable(nodes, pins, []uint16{1, 0, 2, 3, 3})
	if err != nil {
		t.Fatal(err)
	}
	want, err := ring.FromOwners(nodes, pins, []string{"a", "", "b", "c", "c"})
	if err != nil {
		t.Fatal(err)
	}
	if plan := ring.Diff(want, r); len(plan.Moves) > 0 || r.Partitions() != 5 || !slices.Equal(r.Nodes(), want.Nodes()) || len(r.Pins()) != 2 {
		t.Errorf("it differs: %+v", plan)
	}
	next, err := r.Next(nodes[:2], nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := want.Next(nodes[:2], nil)
	if err != nil {
		t.Fatal(err)
	}
	if plan := ring.Diff(other, next); len(plan.Moves) > 0 || r.OwnerOf(2) != "b" {
		t.Errorf("what follows it differs: %+v", plan)
	}
}

func TestFromTableRefuses(t *testing.T) {
	node := []ring.Node{{Name: "a", Weight: 1}}
	for _, c := range []struct {
		name  string
		nodes []ring.Node
		pins  ring.Pins
		table []uint16
	}{
		{"an owner that is not there", node, nil, []uint16{0, 2}},
		{"an owner where there are no nodes", nil, nil, []uint16{1}},
		{"no partitions", node, nil, nil},
		{"too many partitions", node, nil, make([]uint16, ring.MaxPartitions+1)},
		{"a node twice", slices.Concat(node, node), nil, []uint16{1}},
		{"an illegal node", []ring.Node{{Name: "a b"}}, nil, []uint16{1}},
		{"a pin of no partition", node, ring.Pins{1: "a"}, []uint16{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := ring.FromTable(c.nodes, c.pins, c.table); !errors.Is(err, ring.ErrInvalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}
