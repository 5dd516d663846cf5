// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/router/ring"
)

func three() *ring.Ring {
	r, err := ring.New(ring.DefaultPartitions, []ring.Node{
		{Name: "n1", Weight: 1, Zone: "east"},
		{Name: "n2", Weight: 1, Zone: "east"},
		{Name: "n3", Weight: 1, Zone: "west"},
	}, nil)
	if err != nil {
		panic(err)
	}
	return r
}

func Example() {
	r := three()
	for _, account := range []string{"alice", "dora", "erik", "zoe"} {
		fmt.Println(account, "is in partition", r.Partition(account), "of", r.Owner(account))
	}
	// Output:
	// alice is in partition 1850 of n3
	// dora is in partition 131 of n1
	// erik is in partition 494 of n2
	// zoe is in partition 1284 of n2
}

// A node joins: what moves, moves to it, and is the least that gives it its part.
func ExampleDiff() {
	before := three()
	after, err := before.Next(append(before.Nodes(), ring.Node{Name: "n4", Weight: 1, Zone: "west"}), nil)
	if err != nil {
		panic(err)
	}
	plan := ring.Diff(before, after)
	fmt.Printf("%.0f %% of the keys move\n", 100*plan.Share())
	for _, flow := range plan.Flows() {
		fmt.Println(flow.From, "to", flow.To, flow.Partitions)
	}
	// Output:
	// 25 % of the keys move
	// n1 to n4 342
	// n2 to n4 341
	// n3 to n4 341
}

// A node is drained by the weight 0: it keeps nothing, and what it had is shared among the others.
func ExampleRing_Next() {
	r := three()
	nodes := r.Nodes()
	nodes[1].Weight = 0
	drained, err := r.Next(nodes, nil)
	if err != nil {
		panic(err)
	}
	for _, n := range drained.Balance().Nodes {
		fmt.Println(n.Name, n.Partitions)
	}
	// Output:
	// n1 2048
	// n2 0
	// n3 2048
}

// A partition with a popular key is pinned to a node of its own, which has no other partitions than those pinned to it:
// its part by weight is less than one partition.
func ExamplePins() {
	r := three()
	hot := r.Partition("a popular key")
	big := ring.Node{Name: "big", Weight: 1}
	nodes := append(r.Nodes(), big)
	for i := range nodes[:3] {
		nodes[i].Weight = ring.MaxWeight
	}
	pinned, err := r.Next(nodes, ring.Pins{hot: "big"})
	if err != nil {
		panic(err)
	}
	fmt.Println(pinned.Owner("a popular key"), "has", pinned.Balance().Nodes[0].Partitions)

	_, err = r.Next(nodes, ring.Pins{hot: "bgi"})
	fmt.Println(errors.Is(err, ring.ErrInvalid), err)
	// Output:
	// big has 1
	// true invalid ring: pin of partition 2254 to bgi, which is none of the nodes
}

// Copies belong on nodes that do not fail together: two zones come first, then the second node of one of them.
func ExampleRing_Owners() {
	fmt.Println(three().Owners("alice", 3))
	// Output:
	// [n3 n1 n2]
}

// A key goes on to the next node while its own has more than its part of what is in hand.
func ExampleRing_Bounded() {
	r := three()
	inHand := map[string]float64{"n1": 4, "n2": 4, "n3": 4}
	load := func(node string) float64 { return inHand[node] }
	fmt.Println(r.Bounded("alice", 1.25, load))

	inHand[r.Owner("alice")] = 12
	fmt.Println(r.Bounded("alice", 1.25, load))
	// Output:
	// n3
	// n1
}
