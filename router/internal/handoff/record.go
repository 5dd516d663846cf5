// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/assent-tx/assent/router/ring"
)

// Kind says what becomes of partitions when nodes come, go and are lost.
type Kind string

// The kinds of a group.
const (
	// Instant: an owner changes with the epoch and nothing is handed over, so that for a moment two nodes may act for one
	// partition, each by its own epoch. A node that is lost is taken out after the grace.
	Instant Kind = "instant"
	// HandOff: a partition's new owner acts only after the old one has released it, or its session has ended. A node
	// that is lost is taken out after the grace.
	HandOff Kind = "handoff"
	// Data: as HandOff, but a node that is lost keeps its partitions, because what belongs to them is on its disk. It
	// comes back, or an operator takes it out.
	Data Kind = "data"
)

// Settings are what a group is created with. They never change.
type Settings struct {
	// Partitions is the number of partitions: 1 to ring.MaxPartitions, 0 means ring.DefaultPartitions.
	Partitions int `json:"partitions"`
	// Kind is the kind; empty means Data.
	Kind Kind `json:"kind"`
	// GraceMS is how long, in ms of the steward's clock, a session must be known to have ended before its node is taken
	// out: up to MaxGrace, 0 means DefaultGrace, negative at once.
	GraceMS int64 `json:"grace_ms"`
	// Batch is how many moves are under way at a time: 1 to MaxBatch, 0 means DefaultBatch.
	Batch int `json:"batch"`
}

// Defaults and bounds of Settings.
const (
	// DefaultGrace is in ms.
	DefaultGrace = 5000
	// MaxGrace is a day, in ms.
	MaxGrace     = 86_400_000
	DefaultBatch = 128
	MaxBatch     = 1024
)

// withDefaults gives the settings with no zero left. At once is -1.
func (s Settings) withDefaults() Settings {
	s.Partitions = cmp.Or(s.Partitions, ring.DefaultPartitions)
	s.Kind = cmp.Or(s.Kind, Data)
	s.GraceMS = max(cmp.Or(s.GraceMS, DefaultGrace), -1)
	s.Batch = cmp.Or(s.Batch, DefaultBatch)
	return s
}

// grace is in ms.
func (s *Settings) grace() int64 { return max(s.GraceMS, 0) }

// Node is a member of a group.
type Node struct {
	Name string `json:"name"`
	// Weight is its share, relative to the others'; 0 is a drained node, which is to own nothing.
	Weight int    `json:"weight"`
	Zone   string `json:"zone,omitempty"`
	// Subject is where it takes requests; empty is the default subject of its name.
	Subject string `json:"subject,omitempty"`
	// Session is the only session of the node that may do anything: a process of that name with another one waits until the record
	// names its. Invariant: empty for a static node, and for no other.
	Session string `json:"session,omitempty"`
	// Revision is that of the presence by which the session was noted: an older presence tells nothing of the node.
	Revision uint64 `json:"revision,omitempty"`
	// Static nodes were put in by an operator. They have no session, are never judged, and nothing of theirs is handed over.
	Static bool `json:"static,omitempty"`
	// Leaving: its process ends, and hands over what it owns before. It has no weight meanwhile.
	Leaving bool `json:"leaving,omitempty"`
	// Removing: an operator has taken it out. It has no weight any more, hands over what it owns, and is gone as soon as it owns
	// nothing and its process has ended.
	Removing bool `json:"removing,omitempty"`
	// Down: the session has ended.
	Down bool `json:"down,omitempty"`
}

// share is the weight that counts.
func (n *Node) share() int {
	if n.Leaving || n.Removing {
		return 0
	}
	return n.Weight
}

// Move is a partition under way from its owner to its target.
type Move struct {
	Partition int `json:"partition"`
	// Since is the epoch in which it began: what was said of another move of the same partition does not count for this one.
	Since uint64 `json:"since"`
}

// Record is one version of what is stored of a group. It never changes, and may be shared. Every writer makes the next one with
// Apply or Decide and stores it by compare-and-swap on the version that it was made from, so a group goes from one
// right state to the next.
//
// Invariants: Nodes are sorted by name, Moving by partition. A partition that moves has an owner with a session that is not
// known to have ended, and another target. No target is a node that is down, unless it is the owner.
type Record struct {
	// V is the version of the format.
	V     int
	Group string
	// Incarnation is when the group was created, in Unix microseconds: a group that is deleted and made again has a greater one.
	Incarnation uint64
	// Epoch is the record's number: 1, and one more at each change.
	Epoch uint64
	Settings
	Nodes  []Node
	Pins   ring.Pins
	Moving []Move

	// owners and targets are tables: by partition a node's place among Nodes, from 1, and 0 for nobody. targets is owners when they
	// are equal.
	owners, targets []uint16
	// ring and targetRing are the rings of these tables.
	ring, targetRing *ring.Ring
}

// New gives the first record of a group: epoch 1, no nodes. The error is ErrInvalid for a name, an incarnation or settings out of
// their bounds.
func New(group string, incarnation uint64, s Settings) (*Record, error) {
	r := &Record{V: Version, Group: group, Incarnation: incarnation, Epoch: 1, Settings: s.withDefaults(), Pins: ring.Pins{}}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	nobody := make([]uint16, r.Partitions)
	r.complete(nobody, nobody)
	return r, nil
}

// complete gives a record that has been checked its tables, which it keeps.
func (r *Record) complete(owners, targets []uint16) {
	r.owners, r.targets = owners, owners
	r.ring = r.ringOf(owners)
	r.targetRing = r.ring
	if !slices.Equal(owners, targets) {
		r.targets = targets
		r.targetRing = r.ringOf(targets)
	}
}

// tableOf gives a table of names as one of places. All of them are among the nodes.
func (r *Record) tableOf(names []string) []uint16 {
	places := make(map[string]uint16, len(r.Nodes)+1)
	places[""] = 0
	for i := range r.Nodes {
		places[r.Nodes[i].Name] = uint16(i + 1) //nolint:gosec // at most ring.MaxNodes
	}
	table := make([]uint16, len(names))
	for p, name := range names {
		place, known := places[name]
		if !known {
			panic(fmt.Sprintf("handoff: partition %d of group %s, epoch %d, is of %q, which is no node", p, r.Group, r.Epoch, name))
		}
		table[p] = place
	}
	return table
}

// nameIn is the node in a table at a partition; empty for nobody, and for a partition that there is not.
func (r *Record) nameIn(table []uint16, p int) string {
	if p < 0 || p >= len(table) || table[p] == 0 {
		return ""
	}
	return r.Nodes[table[p]-1].Name
}

func (r *Record) ringOf(owners []uint16) *ring.Ring {
	made, err := ring.FromTable(ringNodes(r.Nodes), r.Pins, owners)
	if err != nil {
		panic(fmt.Sprintf("handoff: the ring of group %s, epoch %d: %v", r.Group, r.Epoch, err)) // all of it was checked
	}
	return made
}

// ringNodes are the nodes as a ring knows them.
func ringNodes(nodes []Node) []ring.Node {
	made := make([]ring.Node, len(nodes))
	for i := range nodes {
		made[i] = ring.Node{Name: nodes[i].Name, Weight: nodes[i].share(), Zone: nodes[i].Zone}
	}
	return made
}

// Owner is who owns a partition; empty when nobody does.
func (r *Record) Owner(p int) string { return r.nameIn(r.owners, p) }

// Target is who is to own a partition; empty when nobody is.
func (r *Record) Target(p int) string { return r.nameIn(r.targets, p) }

// owned are the partitions of a node.
func (r *Record) owned(name string) iter.Seq[int] {
	return func(yield func(int) bool) {
		i, found := findNode(r.Nodes, name)
		for p, place := range r.owners {
			if found && int(place) == i+1 && !yield(p) {
				return
			}
		}
	}
}

// Since is the epoch in which a partition's move began; 0 when it does not move.
func (r *Record) Since(p int) uint64 {
	i, found := slices.BinarySearchFunc(r.Moving, p, func(m Move, p int) int { return cmp.Compare(m.Partition, p) })
	if !found {
		return 0
	}
	return r.Moving[i].Since
}

// Node is the node of a name, nil when there is none.
func (r *Record) Node(name string) *Node {
	i, found := findNode(r.Nodes, name)
	if !found {
		return nil
	}
	return &r.Nodes[i]
}

func findNode(nodes []Node, name string) (int, bool) {
	return slices.BinarySearchFunc(nodes, name, func(n Node, name string) int { return strings.Compare(n.Name, name) })
}

// Ring is the ring of owners.
func (r *Record) Ring() *ring.Ring { return r.ring }

// TargetRing is the ring as it will be when all moves are done.
func (r *Record) TargetRing() *ring.Ring { return r.targetRing }

// After tells whether the record is newer than an incarnation and epoch.
func (r *Record) After(incarnation, epoch uint64) bool {
	return r.Incarnation > incarnation || r.Incarnation == incarnation && r.Epoch > epoch
}
