// SPDX-License-Identifier: Apache-2.0

package handoff

// role is what a record has a node do with a partition.
type role uint8

const (
	// none: nothing. It is another's, or the record does not name the node's session.
	none role = iota
	// owns: act for it.
	owns
	// gives: release it.
	gives
)

// holding is what a process has of one partition.
//
// Invariants: at most one hook of a partition runs at a time. It is open only while acquired, and role is owns. A Release is asked only
// when nothing is in hand, and is what ends acquired: however it ends, only another Acquire makes up for it.
type holding struct {
	role role
	// since is the epoch in which the move began that gives it away.
	since uint64
	// to is who gets it.
	to string
	// from and cameBy are whose it was before, and the move that brought it, as far as was seen.
	from   string
	cameBy uint64
	// acquired: Acquire has succeeded, and nothing since has undone it.
	acquired bool
	// open: work may begin.
	open bool
	// busy: it was open since it was last said that nothing is in hand.
	busy bool
	// watched: Drained has been asked for. Invariant: then it is not open.
	watched bool
	// clear: nothing is in hand, which was said since it was last open. Invariant: then it is not open.
	clear bool
	// hook is the hook that runs, 0 none, for the move hookSince; void: its success is of no use, because it was asked before the
	// session was lost.
	hook      StepKind
	hookSince uint64
	void      bool
	// failed is the hook that has failed and waits for Retry; 0 none.
	failed StepKind
	// released is the move whose Release has succeeded; 0 none.
	released uint64
	// dropping is the move by which it was released and became another's, so that what is left here may go; 0 none.
	dropping uint64
}

// answer takes the end of the hook, and tells whether it released the partition.
func (o *holding) answer(ok bool) (released bool) {
	hook, void := o.hook, o.void
	o.hook, o.void = 0, false
	switch {
	case void:
	case !ok:
		o.failed = hook
	case hook == AskAcquire:
		o.acquired = true
	case hook == AskDrop:
		o.dropping = 0
	case o.role == gives && o.since == o.hookSince:
		o.released = o.since
		return true
	}
	return false
}

// forfeit ends what the session had: nothing that it released counts for the next one, nor what it acquired (see leave).
func (h *Holder) forfeit(p int, o *holding) {
	o.released, o.dropping, o.failed = 0, 0, 0
	o.from, o.cameBy = "", 0
	o.void = o.hook != 0
	if o.open {
		h.shut(p, o)
	}
}

func (h *Holder) shut(p int, o *holding) {
	o.open, o.watched, o.clear = false, true, false
	h.emit(Shut, p, o)
}

// settle brings a holding into line with the newest record, and forgets it when nothing is left of it.
func (h *Holder) settle(p int, o *holding) {
	h.assign(p, o)
	switch o.role {
	case owns:
		h.take(p, o)
	case gives:
		h.give(p, o)
	case none:
		h.leave(p, o)
	}
}

// assign gives a holding its role.
func (h *Holder) assign(p int, o *holding) {
	if h.record == nil {
		return
	}
	o.to, o.since = h.record.Target(p), h.record.Since(p)
	switch {
	case !h.Named() || h.record.Owner(p) != h.self:
		o.role = none
	case o.since != 0:
		o.role = gives
	default:
		o.role = owns
	}
}

// take acquires and opens it.
func (h *Holder) take(p int, o *holding) {
	o.released, o.dropping = 0, 0
	switch {
	case o.hook != 0 || o.open:
	case o.acquired:
		o.open, o.busy, o.watched, o.clear = true, true, false, false
		h.emit(Open, p, o)
	case !o.busy && o.failed != AskAcquire:
		h.ask(AskAcquire, p, o)
	}
}

// give shuts it and releases it when nothing is in hand.
func (h *Holder) give(p int, o *holding) {
	o.dropping = 0
	switch {
	case o.open, !o.clear && !o.watched && !h.recalling:
		h.shut(p, o)
	case o.clear && !h.recalling && o.hook == 0 && o.released != o.since && o.failed != AskRelease:
		o.acquired = false
		h.ask(AskRelease, p, o)
	}
}

// leave shuts it; what was released may be dropped when it is another's.
func (h *Holder) leave(p int, o *holding) {
	if o.open {
		h.shut(p, o)
	}
	if o.released != 0 && h.record != nil && h.record.Owner(p) != h.self {
		o.dropping, o.released = o.released, 0
	}
	o.acquired = false
	switch {
	case o.hook != 0:
	case o.dropping != 0 && o.failed != AskDrop:
		h.ask(AskDrop, p, o)
	case !o.busy && !o.watched && o.dropping == 0:
		delete(h.holdings, p)
	}
}

func (h *Holder) ask(hook StepKind, p int, o *holding) {
	o.hook, o.hookSince, o.failed = hook, o.since, 0
	h.emit(hook, p, o)
}

func (h *Holder) emit(kind StepKind, p int, o *holding) {
	step := Step{Kind: kind, Partition: p, Epoch: h.epoch()}
	switch kind {
	case AskAcquire:
		step.Since, step.From, step.To = o.cameBy, o.from, h.self
	case AskRelease:
		step.Since, step.From, step.To = o.since, h.self, o.to
	case AskDrop:
		step.Since, step.From, step.To = o.dropping, h.self, h.record.Owner(p)
	default:
	}
	h.steps = append(h.steps, step)
}
