// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"maps"
	"slices"
)

// Holder is a node's side of the protocol: what one process may do for the partitions that it owns. It has one owner. After each event
// the owner takes the steps and carries them out in order, Open and Shut before any further event and before any work begins.
//
// It does nothing for a partition but by a record that names its session, so neither a record of the time before it joined nor
// another process of its name can lead it astray. That the session lives it cannot know: whoever lets work in must ask the
// session itself, whose answer is exact.
type Holder struct {
	self string
	// session is the one that lives, as far as is known; empty when there is none.
	session string
	// record is the newest that was read, and entry the node in it, nil if it is not; gone: it was deleted since.
	record *Record
	entry  *Node
	gone   bool
	// incarnation is the one of which everything in hand is. Invariant: nothing of an earlier one is in hand or under way.
	incarnation uint64
	// recalling: what is in hand since before the process began is not known yet.
	recalling bool
	holdings  map[int]*holding
	// announce: the presence is to be stored; urgent: for more than what was released.
	announce, urgent bool
	steps            []Step
}

// NewHolder gives the state of a process of a node that has just begun.
func NewHolder(self string) *Holder {
	return &Holder{self: self, holdings: make(map[int]*holding)}
}

// Expect says that Recalled will come: until then nothing is released, because work may be in hand that is not known yet.
func (h *Holder) Expect() { h.recalling = true }

// Recalled says that everything is known that was in hand before the process began.
func (h *Holder) Recalled() {
	if !h.recalling {
		return
	}
	h.recalling = false
	h.each(func(p int, o *holding) {
		if o.watched || o.clear { // that it was drained was said too early to be believed
			h.shut(p, o)
		}
	})
}

// Joined says that the process has a session that lives, with the lock of the node's name. It counts from the record that names it.
func (h *Holder) Joined(session string) {
	if h.session != "" {
		h.Lost()
	}
	h.session, h.announce, h.urgent = session, true, true
	h.look(nil)
}

// Lost says that the session has ended, or may have. Everything is shut, and acquired again when a record names the next session.
func (h *Holder) Lost() {
	h.session = ""
	h.each(h.forfeit)
	h.follow()
}

// Ring takes a record; one that is older than the newest known is passed over.
func (h *Holder) Ring(r *Record) {
	before := h.record
	if before != nil && (before.After(r.Incarnation, r.Epoch) || !h.gone && !r.After(before.Incarnation, before.Epoch)) {
		return
	}
	h.record, h.entry, h.gone = r, r.Node(h.self), false
	if before != nil && before.Incarnation != r.Incarnation {
		h.each(h.forfeit)
		before = nil
	}
	h.look(before)
}

// Gone says that the record was deleted: nobody owns anything until there is one again.
func (h *Holder) Gone() {
	h.gone = true
	h.each(h.forfeit)
}

// Drained says that nothing of a partition that was shut is in hand, with every step of the last Take carried out.
func (h *Holder) Drained(p int) {
	o := h.holdings[p]
	if o == nil || !o.watched {
		return
	}
	o.watched, o.busy, o.clear = false, false, true
	h.settle(p, o)
	h.follow()
}

// Done says that the hook which was asked last for a partition has succeeded or failed. One that failed is asked again after Retry, if
// it is still wanted.
func (h *Holder) Done(p int, ok bool) {
	o := h.holdings[p]
	if o == nil || o.hook == 0 {
		panic("handoff: a hook ended that was not asked")
	}
	if o.answer(ok) {
		h.announce = true
	}
	h.settle(p, o)
	h.follow()
}

// Retry says that a hook of a partition that failed may be asked again.
func (h *Holder) Retry(p int) {
	if o := h.holdings[p]; o != nil {
		o.failed = 0
		h.settle(p, o)
	}
}

// Take gives the steps since the last Take, in order.
func (h *Holder) Take() []Step {
	taken := h.steps
	h.steps = nil
	if h.announce && h.session != "" {
		taken = append(taken, Step{Kind: Announce, Epoch: h.epoch(), Urgent: h.urgent})
		h.announce, h.urgent = false, false
	}
	return taken
}

// Presence is what the node is to say of itself now. Weight, zone, subject and leaving are not the holder's: they are to be filled in.
func (h *Holder) Presence() Presence {
	return Presence{V: Version, Session: h.session, Incarnation: h.incarnation, Released: h.Released()}
}

// Released are the moves that the session has released, and that no record yet shows as over.
func (h *Holder) Released() []Move {
	var released []Move
	for _, p := range slices.Sorted(maps.Keys(h.holdings)) {
		if o := h.holdings[p]; o.role == gives && o.released == o.since {
			released = append(released, Move{p, o.since})
		}
	}
	return released
}

// Releasing tells whether there may soon be more in Released: a move is drained, or its Release runs. One whose Release has failed is not waited
// for.
func (h *Holder) Releasing() bool {
	return !h.recalling && h.some(func(o *holding) bool {
		return o.role == gives && o.released != o.since && o.failed != AskRelease
	})
}

// Record is the newest that is known; nil before the first.
func (h *Holder) Record() *Record { return h.record }

// Incarnation is the one of which everything in hand is; 0 before the first record.
func (h *Holder) Incarnation() uint64 { return h.incarnation }

// Named tells whether the newest record names the process's session, so that it may act for what it owns.
func (h *Holder) Named() bool {
	if h.record == nil || h.gone || h.session == "" || h.incarnation != h.record.Incarnation {
		return false
	}
	n := h.entry
	return n != nil && n.Session == h.session && !n.Down
}

// Ready tells whether the node is in the group, and acts for all that it owns and is not to hand over.
func (h *Holder) Ready() bool {
	return h.Named() && !h.some(func(o *holding) bool { return o.role == owns && !o.open })
}

// Quiet tells whether nothing is open or in hand, and no hook runs.
func (h *Holder) Quiet() bool {
	return !h.some(func(o *holding) bool { return o.open || o.busy || o.hook != 0 })
}

func (h *Holder) some(is func(*holding) bool) bool {
	for _, o := range h.holdings {
		if is(o) {
			return true
		}
	}
	return false
}

func (h *Holder) epoch() uint64 {
	if h.record == nil {
		return 0
	}
	return h.record.Epoch
}

// each visits the holdings by partition.
func (h *Holder) each(visit func(p int, o *holding)) {
	for _, p := range slices.Sorted(maps.Keys(h.holdings)) {
		visit(p, h.holdings[p])
		h.settle(p, h.holdings[p])
	}
}

// follow takes on the record's incarnation, once nothing is in hand or under way of an earlier one.
func (h *Holder) follow() {
	if h.record != nil && h.incarnation != h.record.Incarnation && h.Quiet() {
		h.incarnation, h.announce, h.urgent = h.record.Incarnation, true, true
		h.look(nil)
	}
}

// look finds the partitions that concern the node, by the newest record. Before is the record that was known before.
func (h *Holder) look(before *Record) {
	h.follow()
	if h.Named() {
		h.find(before)
	}
	h.each(func(int, *holding) {})
}

func (h *Holder) find(before *Record) {
	for p := range h.record.owned(h.self) {
		o := h.holdings[p]
		if o == nil {
			o = &holding{}
			h.holdings[p] = o
		}
		if before != nil && before.Owner(p) != h.self {
			o.from, o.cameBy = before.Owner(p), before.Since(p)
		}
	}
}
