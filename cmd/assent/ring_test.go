// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// aGroup is a group with a node in every state, of whose eight partitions some move.
func aGroup() *router.Group {
	return &router.Group{
		Group: "orders", Kind: "data", Partitions: 8, GraceMS: 5000, Batch: 128, Incarnation: 1700000000000000, Epoch: 17,
		Moving: 1, Waiting: 1, Unowned: 1, Peak: 1.25,
		Nodes: []router.GroupNode{
			{Node: "n1", Weight: 2, Zone: "a", Subject: "assent.node.orders.n1", Session: "s1", State: router.StateUp, Partitions: 3, Share: 0.375, MovingOut: 1},
			{Node: "n2", Weight: 1, Subject: "assent.node.orders.n2", Session: "s2", State: router.StateDown, Partitions: 2, Share: 0.25, MovingOut: 1},
			{Node: "n3", Weight: 1, Subject: "elsewhere", State: router.StateStatic, Partitions: 2, Share: 0.25, MovingIn: 2},
		},
		Pins:   map[int]string{3: "n3", 0: "n1"},
		Owners: []int{0, 0, 0, 2, 2, 1, 1, -1}, Targets: []int{0, 0, 2, 2, 2, 1, 2, 2},
		Moves: []router.GroupMove{{Partition: 2, Since: 16}},
	}
}

// printed is what a globals prints on standard output, and on standard error.
func printed(command func(*globals)) (out, errOut string) {
	var stdout, stderr bytes.Buffer
	command(&globals{out: &stdout, errOut: &stderr})
	return stdout.String(), stderr.String()
}

// expectLines compares text by lines, whose columns may be as wide as they like.
func expectLines(t *testing.T, text string, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(text) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPrintGroup(t *testing.T) {
	out, _ := printed(func(g *globals) { g.printGroup(aGroup()) })
	expectLines(t, out,
		"group orders: kind data, 8 partitions, epoch 17 of incarnation 1700000000000000",
		"moving: 1, waiting to move: 1, without an owner: 1; grace 5s, at most 128 moving at a time",
		"balance: the peak is 1.250 × the average",
		"",
		"NODE STATE WEIGHT ZONE PARTITIONS SHARE MOVING IN MOVING OUT SUBJECT",
		"n1 up 2 a 3 37.5 % 0 1 assent.node.orders.n1",
		"n2 down 1 - 2 25.0 % 0 1 assent.node.orders.n2",
		"n3 static 1 - 2 25.0 % 2 0 elsewhere",
		"",
		"pinned partitions: 0 to n1, 3 to n3")
	empty := &router.Group{Group: "new", Kind: "instant", Partitions: 1, GraceMS: -1, Batch: 1, Incarnation: 5, Epoch: 1, Unowned: 1}
	out, errOut := printed(func(g *globals) { g.printGroup(empty) })
	expectLines(t, out,
		"group new: kind instant, 1 partition, epoch 1 of incarnation 5",
		"moving: 0, waiting to move: 0, without an owner: 1; grace 0s, at most 1 moving at a time")
	if !strings.Contains(errOut, "assent ring add") {
		t.Errorf("it is not said how the group gets nodes: %q", errOut)
	}
}

func TestPrintPartitions(t *testing.T) {
	want := []string{
		"", "PARTITION OWNER MOVES TO SINCE EPOCH PIN",
		"0 n1 - - n1", "1 n1 - - -", "2 n1 n3 16 -", "3 n3 - - n3", "4 n3 - - -", "5 n2 - - -", "6 n2 n3 - -", "7 - n3 - -",
	}
	out, _ := printed(func(g *globals) { g.printPartitions(aGroup()) })
	expectLines(t, out, want...)
	group := aGroup()
	group.Targets, group.Moves = nil, nil // nothing moves
	out, _ = printed(func(g *globals) { g.printPartitions(group) })
	want[4], want[8], want[9] = "2 n1 - - -", "6 n2 - - -", "7 - - - -"
	expectLines(t, out, want...)
}

func TestPrintGroups(t *testing.T) {
	out, errOut := printed(func(g *globals) {
		g.printGroups(&router.ListResponse{Groups: []router.Group{*aGroup(), {Group: "odd", Problem: "not JSON"}}})
	})
	expectLines(t, out,
		"GROUP KIND NODES DOWN PARTITIONS TO MOVE UNOWNED PEAK/AVERAGE EPOCH PROBLEM",
		"orders data 3 1 8 2 1 1.250 17 -",
		"odd - 0 0 0 0 0 - 0 not JSON")
	if errOut != "2 groups\n" {
		t.Errorf("standard error: %q", errOut)
	}
	if out, errOut = printed(func(g *globals) { g.printGroups(&router.ListResponse{}) }); out != "" || errOut != "0 groups\n" {
		t.Errorf("of no groups: %q, %q", out, errOut)
	}
}

func TestPrintAllNodes(t *testing.T) {
	var list router.NodesResponse
	for i := range aGroup().Nodes {
		list.Nodes = append(list.Nodes, router.NodeEntry{Group: "orders", GroupNode: aGroup().Nodes[i]})
	}
	out, errOut := printed(func(g *globals) { g.printAllNodes(&list) })
	expectLines(t, out,
		"GROUP NODE STATE WEIGHT ZONE PARTITIONS SHARE SUBJECT SESSION",
		"orders n1 up 2 a 3 37.5 % assent.node.orders.n1 s1",
		"orders n2 down 1 - 2 25.0 % assent.node.orders.n2 s2",
		"orders n3 static 1 - 2 25.0 % elsewhere -")
	if errOut != "3 nodes, 1 down\n" {
		t.Errorf("standard error: %q", errOut)
	}
}

func TestPrintRoutes(t *testing.T) {
	out, _ := printed(func(g *globals) {
		g.printRoutes(&routeReport{Routes: []keyRoute{
			{Key: "a\x1b[2J", KeyRoute: router.KeyRoute{Partition: 4, Node: "n1", Subject: "s.n1"}, Epoch: 7},
			{Key: "b", KeyRoute: router.KeyRoute{Partition: 0, Node: "n2", Subject: "s.n2", Moving: true}, Epoch: 8},
		}})
	})
	expectLines(t, out, "KEY PARTITION NODE SUBJECT EPOCH MOVING", "a·[2J 4 n1 s.n1 7 no", "b 0 n2 s.n2 8 yes")
}

func TestPrintChange(t *testing.T) {
	key, partition := "k", 3
	done := router.ChangeResponse{Changed: true, Epoch: 18, Partitions: 8}
	for _, test := range []struct {
		request  router.ChangeRequest
		response router.ChangeResponse
		want     []string
	}{
		{router.ChangeRequest{Action: router.ActionCreate, Group: "g"}, done, []string{"group g is created: epoch 18"}},
		{
			router.ChangeRequest{Action: router.ActionAdd, Group: "g", Node: "n4"},
			router.ChangeResponse{Changed: true, Epoch: 18, Partitions: 8, Moves: 2, Flows: []ring.Flow{{From: "n1", To: "n4", Partitions: 1}, {To: "n4", Partitions: 1}}},
			[]string{"node n4 is in group g: epoch 18", "2 of 8 partitions (25.0 %) move:", "", "FROM TO PARTITIONS", "n1 n4 1", "- n4 1"},
		},
		{
			router.ChangeRequest{Action: router.ActionDrain, Group: "g", Node: "n1"},
			router.ChangeResponse{DryRun: true, Changed: true, Epoch: 18, Partitions: 8, Moves: 1, Flows: []ring.Flow{{From: "n1", To: "n2", Partitions: 1}}},
			[]string{"dry run: node n1 of group g would be drained of its partitions; nothing is changed", "1 of 8 partitions (12.5 %) would move:", "", "FROM TO PARTITIONS", "n1 n2 1"},
		},
		{router.ChangeRequest{Action: router.ActionWeight, Group: "g", Node: "n1", Weight: 7}, router.ChangeResponse{Epoch: 17}, []string{"node n1 of group g has the weight 7 already; still epoch 17"}},
		{router.ChangeRequest{Action: router.ActionRemove, Group: "g", Node: "n1"}, done, []string{"node n1 is taken out of group g: epoch 18"}},
		{router.ChangeRequest{Action: router.ActionPin, Group: "g", Node: "n1", Key: &key}, done, []string{`the partition of key "k" of group g is pinned to node n1: epoch 18`}},
		{router.ChangeRequest{Action: router.ActionUnpin, Group: "g", Partition: &partition}, done, []string{"partition 3 of group g is pinned to no node: epoch 18"}},
	} {
		part := 0.0
		if test.response.Partitions > 0 {
			part = float64(test.response.Moves) / float64(test.response.Partitions)
		}
		out, _ := printed(func(g *globals) { g.printChange(&test.request, &test.response, part) })
		expectLines(t, out, test.want...)
	}
}

func TestMovingFrom(t *testing.T) {
	if got, want := movingFrom(aGroup()), ", 1 from n1, 1 from n2 (which is down: start it again, or remove it with --force)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDrawRing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ring.svg")
	if err := drawRing(file, aGroup()); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(svg, []byte("<svg")) {
		t.Errorf("%v: not a picture: %.100s", err, svg)
	}
	broken := aGroup()
	broken.Nodes[1].Node = "n1"
	if err := drawRing(file, broken); err == nil || !strings.Contains(err.Error(), "of another version") {
		t.Errorf("two nodes of one name: %v", err)
	}
	if err := drawRing(filepath.Join(file, "below a file"), aGroup()); err == nil {
		t.Error("it was drawn where no file can be")
	}
}

func TestReadKeys(t *testing.T) {
	keys, err := readKeys(strings.NewReader("a\n\nb c\r\n\r\n ä\nlast"))
	if want := []string{"a", "b c", " ä", "last"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("got %q, %v; want %q", keys, err, want)
	}
	for _, empty := range []string{"", "\n\n"} {
		if keys, err := readKeys(strings.NewReader(empty)); exitCode(err) != exitUsage || keys != nil {
			t.Errorf("%q: %q, %v", empty, keys, err)
		}
	}
	if _, err := readKeys(failingReader{}); err == nil || exitCode(err) != exitFailure {
		t.Errorf("an input that fails: %v", err)
	}
}

// failingReader is an input that breaks after a key.
type failingReader struct{}

func (failingReader) Read(p []byte) (int, error) { return copy(p, "key\n"), os.ErrDeadlineExceeded }

func TestCheckRouteKey(t *testing.T) {
	for key, ok := range map[string]bool{
		"a": true, strings.Repeat("x", messages.MaxRouteKey): true, "ä / \x00": true,
		"": false, strings.Repeat("x", messages.MaxRouteKey+1): false, "\xff": false,
	} {
		err := checkRouteKey(key)
		if (err == nil) != ok || !ok && (exitCode(err) != exitUsage || errorCode(err) != "invalid") {
			t.Errorf("%.20q (%d bytes): %v", key, len(key), err)
		}
	}
}

func TestRouteBatch(t *testing.T) {
	long := strings.Repeat("x", messages.MaxRouteKey)
	for _, test := range []struct{ keys, length, want int }{
		{0, 1, 0}, {1, 1, 1}, {maxBatchKeys, 1, maxBatchKeys}, {maxBatchKeys + 1, 1, maxBatchKeys},
		{maxBatchBytes / len(long), len(long), maxBatchBytes / len(long)}, {maxBatchKeys, len(long), maxBatchBytes / len(long)},
	} {
		if got := routeBatch(slices.Repeat([]string{long[:test.length]}, test.keys)); got != test.want {
			t.Errorf("of %d keys of %d bytes %d are asked for, want %d", test.keys, test.length, got, test.want)
		}
	}
}
