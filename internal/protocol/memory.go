// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"math"

	"github.com/assent-tx/assent/messages"
)

// memory holds the finished transactions: long enough to answer a repeated submission (the window), and never shorter
// than until log time has passed their expiry, so that whatever arrives for a forgotten one is dead by rule 2 or 5.
//
// Entries hold no pointers: a million of them cost the garbage collector nothing.
type memory struct {
	entries map[messages.ID]remembered
	// refusals has the reasons of aborted entries that have one.
	refusals map[messages.ID]refusal
	// order is the entries by the time they were finished, in blocks; a block knows the lowest position that its entries
	// need. An entry may stand here after it was recalled.
	order []*block
	// lingering are entries out of the window whose expiry is still to come.
	lingering expiryHeap
	// floor: see Checkpoint.
	floor int64
}

type remembered struct {
	expires, finishedAt int64
	first               position
	outcome             messages.Outcome
}

type refusal struct{ refuser, reason string }

// past is a remembered transaction, as it is recalled.
type past struct {
	remembered
	refusal
}

const blockSize = 1024

type block struct {
	lowest  position
	head    int
	entries []finishedEntry
}

type finishedEntry struct {
	id         messages.ID
	finishedAt int64
}

func (m *memory) init(floor int64) {
	m.entries = make(map[messages.ID]remembered)
	m.refusals = make(map[messages.ID]refusal)
	m.floor = floor
}

func (m *memory) has(id messages.ID) bool {
	_, ok := m.entries[id]
	return ok
}

func (m *memory) remember(tx *transaction, now int64) {
	m.entries[tx.id] = remembered{tx.expires, now, tx.first, tx.outcome}
	if tx.refuser != "" || tx.reason != "" {
		m.refusals[tx.id] = refusal{tx.refuser, tx.reason}
	}
	last := len(m.order) - 1
	if last < 0 || len(m.order[last].entries) == blockSize {
		m.order = append(m.order, &block{lowest: nowhere, entries: make([]finishedEntry, 0, blockSize)})
		last++
	}
	b := m.order[last]
	b.entries = append(b.entries, finishedEntry{tx.id, now})
	b.lowest = b.lowest.lower(tx.first)
}

func (m *memory) peek(id messages.ID) (past, bool) {
	entry, ok := m.entries[id]
	return past{entry, m.refusals[id]}, ok
}

// recall takes an entry out: its transaction is open again.
func (m *memory) recall(id messages.ID) (past, bool) {
	p, ok := m.peek(id)
	delete(m.entries, id)
	delete(m.refusals, id)
	return p, ok
}

// forget lets go of what is out of the window and expired.
func (m *memory) forget(cfg FoldConfig, now int64) {
	for len(m.order) > 0 {
		b := m.order[0]
		if b.head == len(b.entries) {
			if len(b.entries) < blockSize {
				break
			}
			m.order = m.order[1:]
			continue
		}
		oldest := b.entries[b.head]
		if now-oldest.finishedAt <= cfg.Window && len(m.entries)-len(m.lingering) <= cfg.Remember {
			break
		}
		b.head++
		entry, ok := m.entries[oldest.id]
		switch {
		case !ok || entry.finishedAt != oldest.finishedAt: // recalled since; it has a later place, or will
		case now > entry.expires:
			m.drop(oldest.id, now)
		default:
			m.lingering.push(expiry{entry.expires, oldest.id})
		}
	}
	for len(m.lingering) > 0 && m.lingering[0].at < now {
		if id := m.lingering.pop().id; m.has(id) {
			m.drop(id, now)
		}
	}
}

// drop forgets an entry and raises the floor to its id's time, which a garbage id from the future must not push
// past the present.
func (m *memory) drop(id messages.ID, now int64) {
	delete(m.entries, id)
	delete(m.refusals, id)
	m.floor = max(m.floor, min(id.UnixMilli(), now))
}

// nowhere is a position after every other.
var nowhere = position{sequence: math.MaxUint64}

// lowest is the lowest position that a remembered transaction needs, nowhere when there is none.
func (m *memory) lowest() position {
	lowest := nowhere
	for _, b := range m.order {
		if b.head < len(b.entries) {
			lowest = lowest.lower(b.lowest)
		}
	}
	for _, e := range m.lingering {
		if entry, ok := m.entries[e.id]; ok {
			lowest = lowest.lower(entry.first)
		}
	}
	return lowest
}
