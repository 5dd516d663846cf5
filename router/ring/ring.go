// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"maps"
	"math/bits"
	"slices"
)

// Bounds of a ring.
const (
	// DefaultPartitions is how many partitions suit up to some hundred nodes.
	DefaultPartitions = 4096
	// MaxPartitions is how many a ring may have.
	MaxPartitions = 65536
	// MaxNodes is how many nodes it may have.
	MaxNodes = 1024
	// MaxWeight is the greatest weight of a node.
	MaxWeight = 1000
)

// Node is a member of the ring.
type Node struct {
	// Name is what the node is known by: 1 to 64 of A-Z, a-z, 0-9, _ and -.
	Name string `json:"name"`
	// Weight is the node's part of the partitions, relative to the others': 0 to MaxWeight. 0 owns nothing: the node is
	// drained.
	Weight int `json:"weight"`
	// Zone is what the node shares with others that may fail together with it (a rack, a data centre), written like a name.
	// "" shares nothing with anybody.
	Zone string `json:"zone,omitempty"`
}

// Pins say which partitions must be owned by which node. A pin to a node that is not there, or that has no weight, has no
// force until it is.
type Pins map[int]string

// partitions are the pinned partitions in order.
func (p Pins) partitions() []int { return slices.Sorted(maps.Keys(p)) }

// Ring says which node owns which partition. It never changes, and may be used by any number of goroutines. The zero Ring
// has no partitions and nobody owns anything; make others by New or FromOwners, and from these by Next.
type Ring struct {
	// owners are indexes into names, by partition.
	owners []uint16
	// names are "", for nobody, and the names of the nodes.
	// Invariant: names[i+1] == nodes[i].Name.
	names []string
	// nodes are in the order of their names, and seeds are the hashes of these.
	nodes []Node
	seeds []uint64
	// zones tell zones apart: each is the index of a node in it. A node without a zone is alone.
	zones []int
	pins  Pins
}

// New makes a ring that had no owners before. Nodes may be listed in any order; when there are none, or none with a
// weight, nobody owns anything. A pin has to be to one of the nodes. Errors wrap ErrInvalid.
func New(partitions int, nodes []Node, pins Pins) (*Ring, error) {
	if err := checkPartitions(partitions); err != nil {
		return nil, err
	}
	none := &Ring{owners: make([]uint16, partitions), names: []string{""}}
	return none.Next(nodes, pins)
}

// FromOwners makes the ring of a table that was stored: owners are names by partition, "" for nobody, and any table of
// nodes that are listed will do. Errors wrap ErrInvalid.
func FromOwners(nodes []Node, pins Pins, owners []string) (*Ring, error) {
	r, err := empty(len(owners), nodes, pins)
	if err != nil {
		return nil, err
	}
	index := r.index()
	for p, name := range owners {
		i, known := index[name]
		if !known {
			return nil, invalid("partition %d is owned by %.80q, which is none of the nodes", p, name)
		}
		r.owners[p] = i
	}
	return r, nil
}

// FromTable is FromOwners for a table of numbers: owners are, by partition, the owner's place among the nodes in the order of their names,
// from 1, and 0 for nobody. The ring keeps the table as it is: it must not be changed any more. Errors wrap ErrInvalid.
func FromTable(nodes []Node, pins Pins, owners []uint16) (*Ring, error) {
	r, err := bare(len(owners), nodes, pins)
	if err != nil {
		return nil, err
	}
	for p, i := range owners {
		if int(i) >= len(r.names) {
			return nil, invalid("partition %d is owned by node %d of %d", p, i, len(r.nodes))
		}
	}
	r.owners = owners
	return r, nil
}

// Next is the ring that follows when the nodes or pins are these: the same partitions, owned so that each node has its
// part and as few as possible change their owner. What does not change here, does not move. A pin has to be to one of the
// nodes, or to one that this ring knows from its nodes or pins. Errors wrap ErrInvalid.
func (r *Ring) Next(nodes []Node, pins Pins) (*Ring, error) {
	next, err := empty(len(r.owners), nodes, pins)
	if err != nil {
		return nil, err
	}
	if err := r.knows(next); err != nil {
		return nil, err
	}
	index := next.index()
	moved := make([]uint16, len(r.names))
	for i, name := range r.names {
		moved[i] = index[name] // nobody, when it is not there any more
	}
	for p, i := range r.owners {
		next.owners[p] = moved[i]
	}
	newAssignment(next).run()
	return next, nil
}

// empty is a ring in which nobody owns anything.
func empty(partitions int, nodes []Node, pins Pins) (*Ring, error) {
	r, err := bare(partitions, nodes, pins)
	if err != nil {
		return nil, err
	}
	r.owners = make([]uint16, partitions)
	return r, nil
}

// bare is a ring without a table.
func bare(partitions int, nodes []Node, pins Pins) (*Ring, error) {
	if err := checkPartitions(partitions); err != nil {
		return nil, err
	}
	sorted, err := checkNodes(nodes)
	if err != nil {
		return nil, err
	}
	if err := checkPins(pins, partitions); err != nil {
		return nil, err
	}
	r := &Ring{names: []string{""}, nodes: sorted, pins: maps.Clone(pins)}
	numbers := map[string]int{}
	for i, n := range sorted {
		r.names = append(r.names, n.Name)
		r.seeds = append(r.seeds, Hash(n.Name))
		zone, known := numbers[n.Zone]
		if !known || n.Zone == "" {
			zone = i
			numbers[n.Zone] = i
		}
		r.zones = append(r.zones, zone)
	}
	return r, nil
}

// knows tells of pins of the next ring whose nodes nobody ever heard of.
func (r *Ring) knows(next *Ring) error {
	known := next.index()
	for _, name := range r.names {
		known[name] = 0
	}
	for _, name := range r.pins {
		known[name] = 0
	}
	for _, p := range next.pins.partitions() {
		if _, ok := known[next.pins[p]]; !ok {
			return invalid("pin of partition %d to %s, which is none of the nodes", p, next.pins[p])
		}
	}
	return nil
}

// index gives the places of names.
func (r *Ring) index() map[string]uint16 {
	index := make(map[string]uint16, len(r.names))
	for i, name := range r.names {
		index[name] = uint16(i)
	}
	return index
}

// Owner is the node that owns a key, "" when nobody does. It does not allocate.
func (r *Ring) Owner(key string) string {
	p, _ := bits.Mul64(Hash(key), uint64(len(r.owners)))
	if p >= uint64(len(r.owners)) {
		return "" // the zero Ring
	}
	return r.names[r.owners[p]]
}

// Partition is the partition that a key lies in. It does not allocate.
func (r *Ring) Partition(key string) int { return PartitionOf(Hash(key), len(r.owners)) }

// OwnerOf is the node that owns a partition, "" when nobody does or there is no such partition.
func (r *Ring) OwnerOf(partition int) string {
	if partition < 0 || partition >= len(r.owners) {
		return ""
	}
	return r.names[r.owners[partition]]
}

// Partitions is how many partitions there are.
func (r *Ring) Partitions() int { return len(r.owners) }

// Nodes are the nodes, in the order of their names.
func (r *Ring) Nodes() []Node { return slices.Clone(r.nodes) }

// Pins are the pins, also those that have no force now.
func (r *Ring) Pins() Pins { return maps.Clone(r.pins) }
