// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"math"

	"github.com/assent-tx/assent/messages"
)

// memory holds the finished transactions: long enough to answer a repeated submission (the window), and never shorter
// than until log time has passed their expiry.
//
// Entries hold no pointers: a million of them cost the garbage collector nothing.
type memory struct {
	entries map[messages.ID]remembered
	// lists has the entries' participants.
	lists lists
	// refusals has the reasons of aborted entries that have one.
	refusals map[messages.ID]refusal
	// order is the entries by the time they were finished, in blocks; a block knows the lowest position that its entries
	// need. An entry may stand here after it was recalled.
	order     []*block
	blockSize int
	// lingering are entries out of the window whose expiry is still to come, by that; lingerers are the same, by the
	// sequence at which they were first seen. Both may name some that were recalled.
	lingering, lingerers expiryHeap
	// lingers counts the entries that are lingering.
	lingers int
	// floor: see Checkpoint.
	floor int64
}

type remembered struct {
	expires, finishedAt int64
	// end is the sequence at which it was finished.
	end   uint64
	first position
	// parted: see transaction.
	parted uint64
	// list is its participants', in lists.
	list    uint32
	outcome messages.Outcome
	// lingers: it is in lingering, no longer in order.
	lingers bool
}

// refusal is why a transaction was aborted; the zero refusal is that of one that was not.
type refusal struct {
	refuser, reason string
	// wrongOwner is the epoch of the refuser's ring, if its no said that a key has moved; else 0.
	wrongOwner uint64
	// conflict: the refuser's no said that the transaction met another one on a key.
	conflict bool
}

// past is a remembered transaction, as it is recalled.
type past struct {
	remembered
	refusal
	// members are its participants. They are shared, and never change.
	members []string
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
	end        uint64
}

func (m *memory) init(floor int64) {
	m.entries = make(map[messages.ID]remembered)
	m.refusals = make(map[messages.ID]refusal)
	m.lists.init()
	m.blockSize = blockSize
	m.floor = floor
}

// prepared tells whether a transaction is remembered, and notes that a prepare of it came late, at sequence.
func (m *memory) prepared(id messages.ID, sequence uint64) bool {
	entry, ok := m.entries[id]
	if ok {
		entry.parted = sequence
		m.entries[id] = entry
	}
	return ok
}

func (m *memory) remember(tx *transaction, now int64, sequence uint64) {
	m.entries[tx.id] = remembered{
		expires: tx.expires, finishedAt: now, end: sequence, first: tx.first, parted: tx.parted, outcome: tx.outcome,
		list: m.lists.take(tx.everybody()),
	}
	if tx.refuser != "" || tx.reason != "" {
		m.refusals[tx.id] = tx.refusal
	}
	last := len(m.order) - 1
	if last < 0 || len(m.order[last].entries) == m.blockSize {
		m.order = append(m.order, &block{lowest: nowhere, entries: make([]finishedEntry, 0, m.blockSize)})
		last++
	}
	b := m.order[last]
	b.entries = append(b.entries, finishedEntry{tx.id, now, sequence})
	b.lowest = b.lowest.lower(tx.first)
}

func (m *memory) peek(id messages.ID) (past, bool) {
	entry, ok := m.entries[id]
	if !ok {
		return past{}, false
	}
	return past{entry, m.refusals[id], m.lists.names(entry.list)}, true
}

// remove takes an entry out: it is forgotten, or its transaction is open again.
func (m *memory) remove(id messages.ID, entry remembered) {
	if entry.lingers {
		m.lingers--
	}
	m.lists.release(entry.list)
	delete(m.entries, id)
	delete(m.refusals, id)
}

// forget lets go of what is out of the window and expired, and notes in gone those that a prepare has parted.
func (m *memory) forget(cfg FoldConfig, now int64, gone *forgotten) {
	for len(m.order) > 0 {
		b := m.order[0]
		if b.head == len(b.entries) {
			// A block that is used up goes even when it has room: what its entries needed must not hold back the log for
			// those that come.
			m.order[0], m.order = nil, m.order[1:]
			continue
		}
		oldest := b.entries[b.head]
		if now-oldest.finishedAt <= cfg.Window && len(m.entries)-m.lingers <= cfg.Remember {
			break
		}
		b.head++
		entry, ok := m.entries[oldest.id]
		if !ok || entry.lingers || entry.end != oldest.end {
			continue // recalled since; it has a later place, or will
		}
		if until := entry.until(oldest.id, cfg.Window); now > until {
			m.drop(oldest.id, entry, now, gone)
		} else {
			m.linger(oldest.id, entry, until)
		}
	}
	for len(m.lingering) > 0 && m.lingering[0].at < now {
		e := m.lingering.pop()
		if entry, ok := m.entries[e.id]; ok && entry.lingers && entry.until(e.id, cfg.Window) == e.at {
			m.drop(e.id, entry, now, gone)
		}
	}
}

func (m *memory) linger(id messages.ID, entry remembered, until int64) {
	entry.lingers = true
	m.entries[id] = entry
	m.lingers++
	m.lingering.push(expiry{until, id})
	m.lingerers.push(expiry{int64(entry.first.sequence), id})
}

// until is the log time that must have passed before an entry may be forgotten: its expiry, and (when it is to be
// forgotten early) the time of its id, for the floor, which keeps a repeated submission out, rises no further than to
// the present. An id that is further ahead than the window is garbage.
func (r *remembered) until(id messages.ID, window int64) int64 {
	return max(r.expires, min(id.UnixMilli(), r.finishedAt+window))
}

// drop forgets an entry and raises the floor to its id's time, which a garbage id from the future must not push
// past the present.
func (m *memory) drop(id messages.ID, entry remembered, now int64, gone *forgotten) {
	m.remove(id, entry)
	m.floor = max(m.floor, min(id.UnixMilli(), now))
	if entry.parted != 0 {
		gone.spans[id] = span{entry.first.sequence, entry.parted}
	}
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
	for len(m.lingerers) > 0 {
		top := m.lingerers[0]
		if entry, ok := m.entries[top.id]; ok && entry.lingers && entry.first.sequence == uint64(top.at) {
			return lowest.lower(entry.first)
		}
		m.lingerers.pop()
	}
	return lowest
}

// starts appends every sequence that lowest may ever give for what is remembered now.
func (m *memory) starts(sequences []uint64) []uint64 {
	for _, b := range m.order {
		sequences = append(sequences, b.lowest.sequence)
	}
	for _, entry := range m.entries {
		sequences = append(sequences, entry.first.sequence)
	}
	return sequences
}
