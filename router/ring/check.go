// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrInvalid is wrapped by every error of this package: what was asked for is no ring. Asking again does not help.
var ErrInvalid = errors.New("invalid ring")

// maxName is the greatest length of the name of a node or a zone, in bytes.
const maxName = 64

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func checkPartitions(n int) error {
	if n < 1 || n > MaxPartitions {
		return invalid("%d partitions; it may have 1 to %d", n, MaxPartitions)
	}
	return nil
}

// checkNodes gives the nodes in the order of their names.
func checkNodes(nodes []Node) ([]Node, error) {
	if len(nodes) > MaxNodes {
		return nil, invalid("%d nodes; it may have %d at most", len(nodes), MaxNodes)
	}
	for _, n := range nodes {
		switch {
		case !legal(n.Name):
			return nil, invalid("node name %.80q; a name is 1 to %d of A-Z, a-z, 0-9, _ and -", n.Name, maxName)
		case n.Zone != "" && !legal(n.Zone):
			return nil, invalid("zone %.80q of node %s; a zone is empty, or 1 to %d of A-Z, a-z, 0-9, _ and -", n.Zone, n.Name, maxName)
		case n.Weight < 0 || n.Weight > MaxWeight:
			return nil, invalid("weight %d of node %s; a weight is 0 (drained) to %d", n.Weight, n.Name, MaxWeight)
		}
	}
	sorted := slices.Clone(nodes)
	slices.SortFunc(sorted, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Name == sorted[i-1].Name {
			return nil, invalid("node %s is listed twice", sorted[i].Name)
		}
	}
	return sorted, nil
}

// checkPins checks what a pin is by itself; it may be to a node that nobody knows.
func checkPins(pins Pins, partitions int) error {
	for _, p := range pins.partitions() {
		switch name := pins[p]; {
		case p < 0 || p >= partitions:
			return invalid("pin of partition %d; the partitions are 0 to %d", p, partitions-1)
		case !legal(name):
			return invalid("pin of partition %d to %.80q, which cannot be the name of a node", p, name)
		}
	}
	return nil
}

func legal(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
