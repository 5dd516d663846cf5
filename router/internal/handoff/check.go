// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tx/assent/router/ring"
)

// Bounds of a record and of a presence, so that each fits into a message whatever happens.
const (
	// MaxNumber bounds epochs and incarnations: every language's JSON reads them without loss.
	MaxNumber = 1<<53 - 1
	// MaxName bounds the names of groups, nodes and zones, in bytes.
	MaxName = 64
	// MaxSubject bounds the subject of a node, in bytes.
	MaxSubject = 128
	// MaxSession bounds the id of a session, in bytes.
	MaxSession = 32
	// MaxPins is how many partitions may be pinned.
	MaxPins = 1024
)

// What is wrong; the text says more.
var (
	// ErrInvalid: a name, number or change makes no sense for the group.
	ErrInvalid = errors.New("invalid")
	// ErrNoNode: the group has no node of that name.
	ErrNoNode = errors.New("no such node")
	// ErrExists: the group has a node of that name already.
	ErrExists = errors.New("exists already")
	// ErrLastNode: the change leaves nobody to own anything. It is done if it says Force.
	ErrLastNode = errors.New("the last node")
	// ErrDownWithData: the change gives up the data of a node that is down. It is done if it says Force.
	ErrDownWithData = errors.New("down with data")
	// ErrNewer: a newer version of the program wrote it. Its reader must not guess.
	ErrNewer = errors.New("written by a newer version")
	// ErrGarbage: it is not a record, or not a presence.
	ErrGarbage = errors.New("malformed")
)

// check tells what is wrong with a record, its rings left out.
func (r *Record) check() error {
	if err := checkName("group", r.Group); err != nil {
		return err
	}
	if err := r.Settings.check(); err != nil {
		return err
	}
	switch {
	case r.Incarnation == 0 || r.Incarnation > MaxNumber:
		return fmt.Errorf("incarnation %d: want 1 to %d", r.Incarnation, uint64(MaxNumber))
	case r.Epoch == 0 || r.Epoch > MaxNumber:
		return fmt.Errorf("epoch %d: want 1 to %d", r.Epoch, uint64(MaxNumber))
	case len(r.Nodes) > ring.MaxNodes:
		return fmt.Errorf("%d nodes: at most %d", len(r.Nodes), ring.MaxNodes)
	case !slices.IsSortedFunc(r.Nodes, func(a, b Node) int { return cmp.Or(strings.Compare(a.Name, b.Name), -1) }):
		return errors.New("the nodes are not sorted, or one is twice among them")
	}
	for i := range r.Nodes {
		if err := r.Nodes[i].check(); err != nil {
			return err
		}
	}
	return r.checkPins()
}

func (s *Settings) check() error {
	switch {
	case s.Partitions < 1 || s.Partitions > ring.MaxPartitions:
		return fmt.Errorf("partitions %d: want 1 to %d", s.Partitions, ring.MaxPartitions)
	case s.Kind != Instant && s.Kind != HandOff && s.Kind != Data:
		return fmt.Errorf("kind %q: want %s, %s or %s", s.Kind, Instant, HandOff, Data)
	case s.GraceMS < -1 || s.GraceMS == 0 || s.GraceMS > MaxGrace:
		return fmt.Errorf("grace %d ms: want 1 to %d, or -1 for at once", s.GraceMS, MaxGrace)
	case s.Batch < 1 || s.Batch > MaxBatch:
		return fmt.Errorf("batch %d: want 1 to %d", s.Batch, MaxBatch)
	}
	return nil
}

func (n *Node) check() error {
	if err := checkName("node", n.Name); err != nil {
		return err
	}
	if err := CheckPlace(n.Weight, n.Zone, n.Subject); err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	switch {
	case n.Static && (n.Session != "" || n.Revision != 0 || n.Leaving || n.Removing || n.Down):
		return fmt.Errorf("node %s is static, and has a session", n.Name)
	case !n.Static && !isName(n.Session, MaxSession):
		return fmt.Errorf("node %s: session %q: want 1 to %d of A-Z a-z 0-9 _ -", n.Name, n.Session, MaxSession)
	case n.Revision > MaxNumber:
		return fmt.Errorf("node %s: revision %d: at most %d", n.Name, n.Revision, uint64(MaxNumber))
	}
	return nil
}

// CheckPlace checks what a node says of itself, and an operator of a static one.
func CheckPlace(weight int, zone, subject string) error {
	switch {
	case weight < 0 || weight > ring.MaxWeight:
		return fmt.Errorf("weight %d: want 0 to %d", weight, ring.MaxWeight)
	case zone != "" && !isName(zone, MaxName):
		return fmt.Errorf("zone %q: want 1 to %d of A-Z a-z 0-9 _ -", zone, MaxName)
	case subject != "" && !isSubject(subject):
		return fmt.Errorf("subject %q: want tokens with dots between, no wildcards or spaces, at most %d bytes", subject, MaxSubject)
	}
	return nil
}

func (r *Record) checkPins() error {
	if len(r.Pins) > MaxPins {
		return fmt.Errorf("%d pins: at most %d", len(r.Pins), MaxPins)
	}
	for p, name := range r.Pins {
		if p < 0 || p >= r.Partitions {
			return fmt.Errorf("a pin of partition %d: want 0 to %d", p, r.Partitions-1)
		}
		if err := checkName("pin to node", name); err != nil {
			return err
		}
	}
	return nil
}

// checkMoves checks the moves of a record that has its rings.
func (r *Record) checkMoves() error {
	if len(r.Moving) > r.Batch {
		return fmt.Errorf("%d moves: at most %d", len(r.Moving), r.Batch)
	}
	for i, m := range r.Moving {
		owner := r.Node(r.Owner(m.Partition))
		switch {
		case m.Partition < 0 || m.Partition >= r.Partitions:
			return fmt.Errorf("a move of partition %d: want 0 to %d", m.Partition, r.Partitions-1)
		case i > 0 && r.Moving[i-1].Partition >= m.Partition:
			return errors.New("the moves are not sorted, or one is twice among them")
		case m.Since == 0 || m.Since > r.Epoch:
			return fmt.Errorf("partition %d moves since epoch %d: want 1 to %d", m.Partition, m.Since, r.Epoch)
		case r.Kind == Instant:
			return fmt.Errorf("partition %d moves in a group of kind %s", m.Partition, r.Kind)
		case owner == nil || owner.Static || owner.Down || r.Target(m.Partition) == owner.Name:
			return fmt.Errorf("partition %d moves, and nobody has to release it", m.Partition)
		}
	}
	return nil
}

func checkName(what, name string) error {
	if !isName(name, MaxName) {
		return fmt.Errorf("%s %q: want 1 to %d of A-Z a-z 0-9 _ -", what, name, MaxName)
	}
	return nil
}

// nameBytes are what names are made of.
const nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

func isName(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, nameBytes) == ""
}

func isSubject(s string) bool {
	if len(s) > MaxSubject {
		return false
	}
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '*' || c == '>' }) {
			return false
		}
	}
	return true
}
