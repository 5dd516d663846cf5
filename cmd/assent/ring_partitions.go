// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// ownerNames are the names that indices of nodes stand for; "" for nobody.
func ownerNames(group *router.Group, owners []int) []string {
	if len(owners) == 0 {
		return nil
	}
	names := make([]string, len(owners))
	for partition, node := range owners {
		if node >= 0 && node < len(group.Nodes) {
			names[partition] = group.Nodes[node].Node
		}
	}
	return names
}

// printPartitions prints a row for every partition.
func (g *globals) printPartitions(group *router.Group) {
	owners, targets := ownerNames(group, group.Owners), ownerNames(group, group.Targets)
	since := make(map[int]uint64, len(group.Moves))
	for _, move := range group.Moves {
		since[move.Partition] = move.Since
	}
	fmt.Fprintln(g.out)
	rows := newTable(g.out, "PARTITION", "OWNER", "MOVES TO", "SINCE EPOCH", "PIN")
	for partition, owner := range owners {
		to, begun := "", ""
		if targets != nil && targets[partition] != owner {
			to = targets[partition]
		}
		if epoch := since[partition]; epoch > 0 {
			begun = strconv.FormatUint(epoch, 10)
		}
		rows.row(strconv.Itoa(partition), owner, to, begun, group.Pins[partition])
	}
	rows.flush()
}

// drawRing writes a picture of the owners.
func drawRing(file string, group *router.Group) error {
	nodes := make([]ring.Node, len(group.Nodes))
	for i := range group.Nodes {
		nodes[i] = ring.Node{Name: group.Nodes[i].Node, Weight: group.Nodes[i].Weight, Zone: group.Nodes[i].Zone}
	}
	r, err := ring.FromOwners(nodes, group.Pins, ownerNames(group, group.Owners))
	if err != nil {
		return fmt.Errorf("the routing service's answer cannot be drawn: is it of another version? %w", err)
	}
	var svg bytes.Buffer
	if err := r.WriteSVG(&svg); err != nil {
		return err
	}
	return os.WriteFile(file, svg.Bytes(), 0o644)
}

// pinned are pins in words, by partition.
func pinned(pins map[int]string) []string {
	var words []string
	for _, partition := range slices.Sorted(maps.Keys(pins)) {
		words = append(words, fmt.Sprintf("%d to %s", partition, pins[partition]))
	}
	return words
}

// grace is how long a node may be gone; less than nothing stands for at once.
func grace(ms int64) time.Duration { return max(0, time.Duration(ms)*time.Millisecond) }
