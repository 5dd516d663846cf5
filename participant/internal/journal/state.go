// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"slices"

	"github.com/assent-tx/assent/messages"
)

// state is what the messages of a journal come to. It is pure: a function of the messages in their order, and of the times at
// which they are read, which decide only how soon what is settled is forgotten. It has one owner.
//
// Invariant: reading the messages from trimTo() on gives the same open branches, watermarks and floor, and the same memory of
// what is settled, but for what may be forgotten.
type state struct {
	// last is the sequence of the newest message.
	last uint64
	// writer is the instance that took over last.
	writer string
	// ignored counts messages that did not count.
	ignored uint64

	open  map[messages.ID]*item
	past  map[messages.ID]*item
	marks map[string]*item
	floor *item
	// order has every record that was ever live, by sequence. One that is not its item's newest any more is passed over.
	order queue
	// settled are the ids of past, the first to be forgotten first; some are there twice, or not remembered any more.
	settled []messages.ID

	maxPast int
	// raised: floor has been raised since it was written last.
	raised bool
}

// item is something that the journal must not lose: the newest record of it, and where that is.
type item struct {
	record
	at uint64
}

// The times for which, and how many, settled branches are remembered.
const (
	// pastExpiry is for how long after its expiry, in milliseconds: no prepare of it comes then, by any clock.
	pastExpiry = 60_000
	// defaultMaxPast is how many. Beyond it the oldest are forgotten, and the floor is raised.
	defaultMaxPast = 250_000
)

func newState() *state {
	return &state{
		open: make(map[messages.ID]*item), past: make(map[messages.ID]*item), marks: make(map[string]*item),
		maxPast: defaultMaxPast,
	}
}

// message takes a message that was read: the sequence after which it was written, and its records. It counts only if it
// stands right there, so that its writer had read all that comes before. That, not the server's compare-and-swap, is what
// makes two writers harmless: a message of one who was superseded counts for nobody.
func (s *state) message(sequence, base uint64, records []record, now int64) {
	s.last = max(s.last, sequence)
	if sequence != base+1 {
		s.ignored++
		return
	}
	for i := range records {
		s.apply(sequence, &records[i], now)
	}
}

// apply takes one record of a message that counts.
func (s *state) apply(sequence uint64, r *record, now int64) {
	s.last = max(s.last, sequence)
	it := &item{*r, sequence}
	switch r.verb {
	case verbOpen:
		s.drop(r.tx)
		delete(s.past, r.tx)
		s.open[r.tx] = it
	case verbDone:
		s.drop(r.tx)
		if r.at+pastExpiry < now {
			delete(s.past, r.tx)
			return
		}
		if s.past[r.tx] == nil {
			s.settled = append(s.settled, r.tx)
		}
		s.past[r.tx] = it
		s.forget(now)
	case verbMark:
		s.marks[r.name] = it
	case verbFloor:
		if s.floor != nil && s.floor.record.at > r.at { // raised since it was given to be written
			it.record.at = s.floor.record.at
		} else {
			s.raised = false
		}
		s.floor = it
	case verbBegin:
		s.writer = r.name
		return
	case verbHere:
		return
	}
	s.order.push(it)
}

// drop ends an open record; its item stays in order for a while, and must not keep the data and the note.
func (s *state) drop(tx messages.ID) {
	if it := s.open[tx]; it != nil {
		it.data, it.note = nil, nil
		delete(s.open, tx)
	}
}

// forget what is settled and need not be remembered any more, the oldest first.
func (s *state) forget(now int64) {
	n := 0
	for ; n < len(s.settled); n++ {
		id := s.settled[n]
		switch it := s.past[id]; {
		case it == nil:
			continue
		case it.record.at+pastExpiry < now:
		case len(s.past) > s.maxPast:
			s.raise(id.UnixMilli())
		default:
			s.settled = slices.Delete(s.settled, 0, n)
			return
		}
		delete(s.past, id)
	}
	s.settled = s.settled[:0]
}

func (s *state) raise(to int64) {
	switch {
	case s.floor == nil:
		s.floor = &item{record: record{verb: verbFloor, at: to}}
	case s.floor.record.at < to:
		s.floor.record.at = to
	default:
		return
	}
	s.raised = true
}

// live tells whether a record is its item's newest, and still needed.
func (s *state) live(it *item, now int64) bool {
	switch it.verb {
	case verbOpen:
		return s.open[it.tx] == it
	case verbDone:
		if s.past[it.tx] != it {
			return false
		}
		if it.record.at+pastExpiry < now {
			delete(s.past, it.tx)
			return false
		}
		return true
	case verbMark:
		return s.marks[it.name] == it
	case verbFloor:
		return s.floor == it
	case verbBegin, verbHere:
		return false
	default:
		return false
	}
}

// trimTo is the first message that is still needed; the newest always is.
func (s *state) trimTo(now int64) uint64 {
	for {
		it := s.order.front()
		if it == nil {
			return s.last
		}
		if s.live(it, now) {
			return min(it.at, s.last)
		}
		s.order.pop()
	}
}

// moves gives what is to be written again, as records of at most so many bytes in all (but at least one): what stands more than
// span messages before the newest, so that a few branches which stay open for long do not hold everything else; and a floor that
// was raised.
func (s *state) moves(span uint64, bytes int, now int64) []record {
	var records []record
	if s.raised {
		records = append(records, s.floor.record)
	}
	s.trimTo(now)
	for i := range s.order.items {
		it := s.order.items[i]
		if it.at+span >= s.last {
			break
		}
		if !s.live(it, now) || it.verb == verbFloor && s.raised {
			continue
		}
		bytes -= len(it.data) + recordOverhead
		if bytes < 0 && len(records) > 0 {
			break
		}
		records = append(records, it.record)
	}
	return records
}

// queue is a first-in-first-out of items.
type queue struct {
	items []*item
}

func (q *queue) push(it *item) { q.items = append(q.items, it) }

func (q *queue) front() *item {
	if len(q.items) == 0 {
		return nil
	}
	return q.items[0]
}

func (q *queue) pop() {
	q.items[0] = nil
	q.items = q.items[1:]
}
