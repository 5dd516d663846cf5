// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// forgotten keeps readers agreed about transactions that one of them has forgotten.
//
// A prepare of a transaction that is not known begins it. So a prepare must not be believed by whoever has not read what
// came before it: not when it is late (a leader that was paused, a publish that hung), for the transaction may have been
// committed and forgotten, and would be decided once more; and not when a checkpoint parts it from an earlier prepare,
// for the votes or the abort between the two are then not read. A reader ignores the first because the id is not above the
// floor, and the second because the checkpoint names it.
type forgotten struct {
	// through is where the checkpoint was taken: prepares up to it were judged by who took it, and only spans count.
	through uint64
	// spans are forgotten transactions, and where a reader that starts between must ignore their prepares.
	spans map[messages.ID]span
	// pruneAt is the number of spans at which those that no checkpoint can part any more are dropped, at the least least.
	pruneAt, least int
}

// span is the part of the log behind whose first sequence, up to the last, a reader that starts there would be misled.
type span struct{ first, last uint64 }

// minSpans is the least number of spans that is worth a look at which of them can go.
const minSpans = 4096

// Skipped is a transaction whose prepares a reader ignores up to the sequence Last.
type Skipped struct {
	Tx   messages.ID `json:"tx"`
	Last uint64      `json:"last"`
}

func (f *forgotten) init(from Checkpoint) {
	*f = forgotten{through: from.Through, spans: make(map[messages.ID]span), pruneAt: minSpans, least: minSpans}
	for _, s := range from.Skip {
		f.spans[s.Tx] = span{last: s.Last}
	}
}

// ignores tells whether a prepare of a transaction that is not known must not begin it.
func (f *Fold) ignores(id messages.ID) bool {
	s, ok := f.forgotten.spans[id]
	judged := f.sequence <= f.forgotten.through
	if !ok && (judged || f.memory.floor == 0 || id.UnixMilli() > f.memory.floor) {
		return false
	}
	s.last = max(s.last, f.sequence)
	f.forgotten.spans[id] = s
	return true
}

// part notes that a prepare came which would mislead a reader that starts between the transaction's first and it.
func (tx *transaction) part(p *messages.Prepare, sequence uint64) {
	if tx.recalled || tx.outcome != messages.Undecided || tx.yes|tx.no|tx.readOnly != 0 ||
		tx.expires != p.Expires || tx.routing != p.Routing || !slices.Equal(tx.participants, p.Participants) {
		tx.parted = sequence
	}
}

// skipped are the spans that a reader must know which starts at a sequence.
func (f *forgotten) skipped(start uint64) (skip []Skipped) {
	for id, s := range f.spans {
		if s.first < start && start <= s.last {
			skip = append(skip, Skipped{id, s.last})
		}
	}
	slices.SortFunc(skip, func(a, b Skipped) int { return bytes.Compare(a.Tx[:], b.Tx[:]) })
	return skip
}

// prune drops the spans in which no checkpoint can start any more, now and then: checkpoints start where a transaction
// that is known was first seen.
func (f *Fold) prune() {
	spans := f.forgotten.spans
	if len(spans) < f.forgotten.pruneAt {
		return
	}
	starts := f.memory.starts(make([]uint64, 0, len(f.open)))
	for _, tx := range f.open {
		starts = append(starts, tx.first.sequence)
	}
	slices.Sort(starts)
	for id, s := range spans {
		// A span's first sequence itself misleads nobody. What is yet to be read may begin a transaction anywhere.
		i, _ := slices.BinarySearch(starts, s.first+1)
		if s.last < f.sequence && (i == len(starts) || starts[i] > s.last) {
			delete(spans, id)
		}
	}
	f.forgotten.pruneAt = max(f.forgotten.least, 2*len(spans))
}
