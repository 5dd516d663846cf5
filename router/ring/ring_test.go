// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
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

func must(t testing.TB) func(r *ring.Ring, err error) *ring.Ring {
	return func(r *ring.Ring, err error) *ring.Ring {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestJoinMovesOnlyToTheNewNode(t *testing.T) {
	before := must(t)(ring.New(ring.DefaultPartitions, members(10), nil))
	plan := ring.Diff(before, must(t)(before.Next(members(11), nil)))
	if len(plan.Moves) != ring.DefaultPartitions/11 || plan.Partitions != ring.DefaultPartitions || plan.Corrections != 0 {
		t.Errorf("%d of %d partitions moved, %d corrections; expected %d", len(plan.Moves), plan.Partitions, plan.Corrections, ring.DefaultPartitions/11)
	}
	for _, m := range plan.Moves {
		if m.To != "node-10" || m.From == "" {
			t.Errorf("%+v, though neither is new", m)
		}
	}
	if flows := plan.Flows(); len(flows) != 10 || flows[0].From != "node-0" || flows[0].Partitions < 37 || flows[0].Partitions > 38 {
		t.Errorf("flows %+v", flows)
	}
	if got := plan.Share(); math.Abs(got-1.0/11) > 1.0/ring.DefaultPartitions {
		t.Errorf("a share of %v moves", got)
	}
}

func TestDrainAndReturn(t *testing.T) {
	nodes := members(4)
	before := must(t)(ring.New(64, nodes, nil))
	nodes[2].Weight = 0
	drained := must(t)(before.Next(nodes, nil))
	for p := range 64 {
		if a, b := before.OwnerOf(p), drained.OwnerOf(p); b == "node-2" || a != "node-2" && a != b {
			t.Errorf("partition %d goes from %s to %s", p, a, b)
		}
	}
	if b := drained.Balance(); b.Nodes[2].Partitions != 0 || b.Nodes[2].Fair != 0 || b.Unowned != 0 || b.Peak < 1 || b.Peak > 22/21.0 {
		t.Errorf("balance %+v", b)
	}
	for _, name := range drained.Owners("a key", 4) {
		if name == "node-2" {
			t.Error("copies are put on a drained node")
		}
	}
	nodes[2].Weight = 1
	if plan := ring.Diff(drained, must(t)(drained.Next(nodes, nil))); len(plan.Moves) != 16 {
		t.Errorf("%d partitions move back", len(plan.Moves))
	}
}

func TestNobody(t *testing.T) {
	drained := []ring.Node{{Name: "a"}, {Name: "b"}}
	for _, nodes := range [][]ring.Node{nil, {}, drained} {
		r := must(t)(ring.New(16, nodes, nil))
		if r.Owner("key") != "" || r.OwnerOf(3) != "" || len(r.Owners("key", 3)) != 0 || r.Bounded("key", 2, nil) != "" {
			t.Errorf("%v own something", nodes)
		}
		if b := r.Balance(); b.Unowned != 16 || b.Peak != 0 {
			t.Errorf("balance %+v", b)
		}
		owned := must(t)(r.Next(members(2), nil))
		if plan := ring.Diff(owned, must(t)(owned.Next(nodes, nil))); len(plan.Moves) != 16 || plan.Moves[0].To != "" {
			t.Errorf("the last leave: %+v", plan)
		}
	}
}

func TestPins(t *testing.T) {
	nodes := members(4)
	pins := ring.Pins{}
	for p := range 10 {
		pins[p] = "node-1" // more than its four
	}
	r := must(t)(ring.New(16, nodes, pins))
	b := r.Balance()
	if b.Nodes[1].Partitions != 10 || b.Nodes[1].Pinned != 10 || b.Peak != 2.5 {
		t.Errorf("balance %+v", b)
	}
	for _, i := range []int{0, 2, 3} {
		if b.Nodes[i].Partitions != 2 {
			t.Errorf("%+v; the rest of three is six", b.Nodes[i])
		}
	}
	if got := r.Pins(); !reflect.DeepEqual(got, pins) {
		t.Errorf("pins %v", got)
	}

	// Its node leaves: the pins stay, without force until it is back.
	without := must(t)(r.Next(slices.Delete(slices.Clone(nodes), 1, 2), pins))
	if without.OwnerOf(0) == "node-1" || len(without.Pins()) != 10 {
		t.Errorf("without node-1: %s, %v", without.OwnerOf(0), without.Pins())
	}
	if back := must(t)(without.Next(nodes, without.Pins())); back.OwnerOf(0) != "node-1" {
		t.Errorf("back again: %s", back.OwnerOf(0))
	}
	if unpinned := must(t)(r.Next(nodes, nil)); unpinned.Balance().Peak != 1 {
		t.Errorf("unpinned: %+v", unpinned.Balance())
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	r := must(t)(ring.New(ring.DefaultPartitions, members(100), nil))
	long := strings.Repeat("x", 64<<10)
	for _, key := range []string{"", "a key", long} {
		if n := testing.AllocsPerRun(1000, func() { _, _ = r.Owner(key), r.Partition(key) }); n != 0 {
			t.Errorf("%v allocations a lookup of %d bytes", n, len(key))
		}
	}
}

func TestAnswersAreCopies(t *testing.T) {
	nodes, pins := members(3), ring.Pins{1: "node-1"}
	r := must(t)(ring.New(16, nodes, pins))
	owner := r.OwnerOf(1)
	nodes[0].Name, pins[2] = "changed", "changed"
	r.Nodes()[0].Name, r.Pins()[1] = "changed", "changed"
	if r.Nodes()[0].Name != "node-0" || len(r.Pins()) != 1 || r.Pins()[1] != "node-1" || r.OwnerOf(1) != owner {
		t.Errorf("nodes %v, pins %v", r.Nodes(), r.Pins())
	}
}

// One ring is asked and followed by many; the race detector watches.
func TestManyGoroutines(t *testing.T) {
	r := must(t)(ring.New(256, members(5), ring.Pins{7: "node-1"}))
	want := must(t)(r.Next(members(6), nil)).OwnerOf(9)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			next, err := r.Next(members(6), nil)
			if err != nil || next.OwnerOf(9) != want {
				t.Errorf("%d: %v", i, err)
				return
			}
			key := fmt.Sprint(i)
			_, _, _ = r.Owner(key), r.Owners(key, 3), r.Bounded(key, 1.25, func(string) float64 { return 1 })
			_, _ = r.Balance(), ring.Diff(r, next)
		})
	}
	all.Wait()
}

func TestBadInput(t *testing.T) {
	long := strings.Repeat("n", 65)
	good := members(2)
	for what, test := range map[string]struct {
		partitions int
		nodes      []ring.Node
		pins       ring.Pins
		text       string
	}{
		"no partitions":       {0, good, nil, "0 partitions; it may have 1 to 65536"},
		"negative partitions": {math.MinInt, good, nil, "partitions"},
		"too many partitions": {65537, good, nil, "65537 partitions"},
		"too many nodes":      {16, members(ring.MaxNodes + 1), nil, "1025 nodes; it may have 1024 at most"},
		"the same twice":      {16, append(members(2), members(1)...), nil, "node node-0 is listed twice"},
		"no name":             {16, []ring.Node{{Weight: 1}}, nil, `node name ""`},
		"long name":           {16, []ring.Node{{Name: long, Weight: 1}}, nil, "a name is 1 to 64 of"},
		"a dot in a name":     {16, []ring.Node{{Name: "a.b", Weight: 1}}, nil, `node name "a.b"`},
		"no ASCII":            {16, []ring.Node{{Name: "é", Weight: 1}}, nil, "node name"},
		"markup":              {16, []ring.Node{{Name: "<b>", Weight: 1}}, nil, "node name"},
		"a bad zone":          {16, []ring.Node{{Name: "a", Zone: "x y"}}, nil, `zone "x y" of node a`},
		"a negative weight":   {16, []ring.Node{{Name: "a", Weight: -1}}, nil, "weight -1 of node a; a weight is 0 (drained) to 1000"},
		"an absurd weight":    {16, []ring.Node{{Name: "a", Weight: math.MaxInt}}, nil, "weight 9223372036854775807"},
		"a negative pin":      {16, good, ring.Pins{-1: "node-0"}, "pin of partition -1; the partitions are 0 to 15"},
		"a pin too far":       {16, good, ring.Pins{16: "node-0"}, "pin of partition 16"},
		"a pin to nothing":    {16, good, ring.Pins{3: ""}, "cannot be the name of a node"},
		"a pin to a stranger": {16, good, ring.Pins{3: "node-9"}, "pin of partition 3 to node-9, which is none of the nodes"},
		"the first of many":   {16, good, ring.Pins{-4: "x", 99: "y", 3: "z"}, "pin of partition -4"},
	} {
		r, err := ring.New(test.partitions, test.nodes, test.pins)
		if r != nil || !errors.Is(err, ring.ErrInvalid) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v", what, err)
		}
		if test.partitions != 16 {
			continue
		}
		before := must(t)(ring.New(16, good, nil))
		if r, err := before.Next(test.nodes, test.pins); r != nil || !errors.Is(err, ring.ErrInvalid) || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s, next: %v", what, err)
		}
	}
	if _, err := (&ring.Ring{}).Next(good, nil); !errors.Is(err, ring.ErrInvalid) {
		t.Errorf("after the zero ring: %v", err)
	}
}

func TestFromOwnersBadInput(t *testing.T) {
	nodes := members(2)
	for text, owners := range map[string][]string{
		"0 partitions": {},
		"partition 1 is owned by \"node-2\", which is none of the nodes": {"node-0", "node-2", ""},
		"65537 partitions": make([]string, 65537),
	} {
		if _, err := ring.FromOwners(nodes, nil, owners); !errors.Is(err, ring.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// What is stored may be of any balance, and have pins whose nodes have left since.
	r := must(t)(ring.FromOwners(nodes, ring.Pins{0: "node-9"}, []string{"node-1", "", "node-1"}))
	if r.OwnerOf(0) != "node-1" || r.OwnerOf(1) != "" || r.Partitions() != 3 || r.Balance().Peak != 4.0/3 {
		t.Errorf("%s %q, %+v", r.OwnerOf(0), r.OwnerOf(1), r.Balance())
	}
	must(t)(r.Next(nodes, r.Pins()))
}

func TestZeroRing(t *testing.T) {
	var r ring.Ring
	if r.Owner("key") != "" || r.Partition("key") != 0 || r.OwnerOf(0) != "" || r.Partitions() != 0 || len(r.Nodes()) != 0 || r.Owners("key", 1) != nil {
		t.Error("the zero ring owns something")
	}
	if b := r.Balance(); len(b.Nodes) != 0 || b.Unowned != 0 || ring.Diff(&r, &r).Share() != 0 {
		t.Errorf("balance %+v", b)
	}
}

func TestDiffOfDifferentRings(t *testing.T) {
	small, large := must(t)(ring.New(4, members(2), nil)), must(t)(ring.New(8, members(2), nil))
	for _, from := range []*ring.Ring{nil, small, {}} {
		if plan := ring.Diff(from, large); len(plan.Moves) != 8 || plan.Moves[0].From != "" || plan.Corrections != 0 {
			t.Errorf("%+v", plan)
		}
	}
	if plan := ring.Diff(large, nil); len(plan.Moves) != 0 || plan.Partitions != 0 {
		t.Errorf("%+v", plan)
	}
}

func TestBoundedLoads(t *testing.T) {
	r := must(t)(ring.New(64, members(3), nil))
	owner := r.Owner("key")
	order := r.Owners("key", 3)
	for what, test := range map[string]struct {
		factor float64
		loads  [3]float64 // in the order of preference
		want   string
	}{
		"idle":                       {1.25, [3]float64{}, owner},
		"even":                       {1.25, [3]float64{10, 10, 10}, owner},
		"the owner is full":          {1.25, [3]float64{20, 10, 10}, order[1]},
		"so is the second":           {1.25, [3]float64{20, 20, 0}, order[2]},
		"a wide bound":               {3, [3]float64{20, 10, 10}, owner},
		"less than one is one":       {-5, [3]float64{10, 9, 10}, order[1]},
		"not a number is one":        {math.NaN(), [3]float64{12, 9, 9}, order[1]},
		"no load is not a number":    {1.25, [3]float64{math.NaN(), 5, 5}, owner},
		"no load is less than none":  {1.25, [3]float64{-100, 5, 5}, owner},
		"infinite takes no more":     {1.25, [3]float64{math.Inf(1), 5, 5}, order[1]},
		"none takes any more":        {1.25, [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}, ""},
		"an infinite factor for all": {math.Inf(1), [3]float64{1e300, 0, 0}, owner},
	} {
		got := r.Bounded("key", test.factor, func(node string) float64 { return test.loads[slices.Index(order, node)] })
		if got != test.want {
			t.Errorf("%s: %q, expected %q of %v", what, got, test.want, order)
		}
	}
}
