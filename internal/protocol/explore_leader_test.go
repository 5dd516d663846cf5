// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"slices"

	"github.com/assent-tx/assent/messages"
)

// The coordinator's shell, as far as the protocol depends on it: what a leader does with its fold and its delivery.

// leaderSteps are what a leader may do next, or have done to it.
func (w *universe) leaderSteps(i int, yield emit) {
	if w.leaders[i] == nil {
		n := w.next()
		n.startLeader(i)
		yield(step{verb: "a leader starts", who: i}, n)
		for end := max(w.checkpoint.Sequence, 1) - 1; w.scope.past && end < uint64(len(w.log)); end++ {
			n := w.next()
			n.startLeaderAt(i, end)
			yield(step{verb: "a leader starts, and is told an end of the log of before", who: i, what: int(end)}, n)
		}
		return
	}
	l := w.leaders[i]
	if l.fold.Sequence() < uint64(len(w.log)) {
		if n := w.next(); n.read(i) {
			yield(step{verb: "a leader reads", who: i, what: int(n.at(i))}, n)
		}
	}
	for tx := range w.scope.transactions {
		if w.left.submits[tx] > 0 {
			n := w.next()
			n.left.submits[tx]--
			n.submit(i, tx)
			yield(step{verb: "a client submits", who: i, what: tx}, n)
		}
	}
	for j := range w.packets {
		if p := &w.packets[j]; p.outcome == messages.Undecided {
			n := w.next()
			n.done(i, p)
			yield(step{"a leader hears done of", i, p.participant, p}, n)
		}
	}
	if len(l.fold.Overdue(w.leaderClock(i), maxTx, nil)) > 0 {
		n := w.next()
		n.overdue(i)
		yield(step{verb: "a leader aborts what is late", who: i}, n)
	}
	if w.left.checkpoints > 0 && (l.fold.Checkpoint().Sequence > w.checkpoint.Sequence || w.scope.rule == storeLower) {
		n := w.next()
		n.left.checkpoints--
		n.checkpoint = l.fold.Checkpoint()
		n.trimmed = max(n.trimmed, n.checkpoint.Sequence-1)
		yield(step{verb: "a leader stores a checkpoint", who: i, what: int(n.checkpoint.Sequence)}, n)
	}
	if w.left.crashes > 0 {
		n := w.next()
		n.left.crashes--
		n.leaders[i] = nil
		yield(step{verb: "a leader crashes", who: i}, n)
	}
}

// at is how far a leader has read.
func (w *universe) at(i int) uint64 {
	if w.leaders[i] == nil {
		return 0
	}
	return w.leaders[i].fold.Sequence()
}

// startLeader reads the checkpoint, replays the log from there to its end, and acts on what is open then.
func (w *universe) startLeader(i int) { w.startLeaderAt(i, uint64(len(w.log))) }

// startLeaderAt is startLeader with what it takes for the end: the stream's leader of before may have told it.
func (w *universe) startLeaderAt(i int, end uint64) {
	from := w.checkpoint
	if w.scope.rule == noReplay {
		from.Sequence = uint64(len(w.log)) + 1
	}
	l := &leader{
		fold:     NewFold(FoldConfig{Window: w.scope.window}, from),
		delivery: NewDelivery(DeliveryConfig{Backoff: 1, MaxBackoff: 1}),
		ownFold:  true, ownDelivery: true,
	}
	l.fold.memory.blockSize = 64 // as many as never finish here: 1024 are a lot to clear for one
	w.leaders[i] = l
	w.ownLeaders |= 1 << i
	if max(from.Sequence, 1) <= w.trimmed {
		w.breaks("leader %d starts at sequence %d, and the log begins after %d", i, from.Sequence, w.trimmed)
	}
	l.fold.Replay()
	for sequence := l.fold.Sequence() + 1; sequence <= end; sequence++ {
		if err := w.feed(l, sequence); err != nil {
			w.breaks("leader %d replays: %v", i, err)
		}
	}
	l.fold.Live()
	w.carryOut(l)
}

// feed gives a leader's fold one message.
func (w *universe) feed(l *leader, sequence uint64) error {
	e := &w.log[sequence-1]
	participant := ""
	if e.kind == messages.KindPrepare || e.kind == messages.KindVote {
		participant = names[e.participant]
	}
	return l.changeFold().Message(sequence, e.at, e.kind, participant, []byte(e.data))
}

// read takes the next message that the log still has. A leader that finds a gap starts again. It is false when there is none: all
// that this leader has not read is trimmed.
func (w *universe) read(i int) bool {
	next := max(w.at(i), w.trimmed) + 1
	if next > uint64(len(w.log)) {
		return false
	}
	l := w.leader(i)
	if err := w.feed(l, next); err != nil {
		w.leaders[i] = nil
		return true
	}
	w.carryOut(l)
	return true
}

// carryOut does what the fold wants, and sends what is owed.
func (w *universe) carryOut(l *leader) {
	effects := l.changeFold().Take()
	if len(effects) == 0 && !owesNow(l.delivery) {
		return
	}
	delivery := l.changeDelivery()
	for _, e := range effects {
		tx := txOf(e.Tx)
		switch {
		case e.Kind == Decided:
			if l.waiting&(1<<tx) != 0 {
				w.told[tx] |= 1 << e.Outcome
				l.waiting &^= 1 << tx
			}
		case e.Kind == Finished:
			delivery.Forget(e.Tx)
		case e.Kind == Ignored:
			l.waiting &^= 1 << tx // the client learns that its outcome is not known
		case e.Presumed:
			w.send(packet{participant: slices.Index(names[:], e.Participant), outcome: e.Outcome, effect: messages.Effect{Tx: e.Tx, Vote: e.Vote}})
		default:
			delivery.Owe(e, w.now)
		}
	}
	for p, name := range names {
		commits, rollbacks := delivery.Batch(name, w.now, nil, nil)
		for _, e := range commits {
			w.send(packet{participant: p, outcome: messages.Committed, effect: e})
		}
		for _, e := range rollbacks {
			w.send(packet{participant: p, outcome: messages.Aborted, effect: e})
		}
	}
}

// owesNow tells whether there is something to send.
func owesNow(d *Delivery) bool {
	for range d.Waiting() {
		return true
	}
	return false
}

// submit takes a client's submission.
func (w *universe) submit(i, tx int) {
	l := w.leader(i)
	v, known := l.fold.Lookup(ids[tx])
	if v.Outcome != messages.Undecided {
		w.told[tx] |= 1 << v.Outcome
		return
	}
	if l.waiting&(1<<tx) != 0 {
		return
	}
	now := max(w.leaderClock(i), l.fold.LogTime())
	minted := ids[tx].UnixMilli()
	if !known && (minted <= l.fold.Floor() || minted < now-w.scope.window) {
		return // outside the window: the client learns nothing
	}
	l.waiting |= 1 << tx
	p := messages.Prepare{Tx: ids[tx], Participants: names[:w.scope.participants], Expires: now + w.scope.timeout,
		Operations: []messages.Operation{{}}}
	missing := p.Participants
	if known {
		var first First
		missing, first = l.fold.Missing(ids[tx], nil)
		p.Participants, p.Expires = first.Participants, first.Expires
	}
	for _, name := range missing {
		w.publish(publish{entry{0, messages.KindPrepare, slices.Index(names[:], name), string(messages.AppendPrepare(nil, &p)), tx}, nobody})
	}
}

// done takes a participant's done, and writes down what is finished by it.
func (w *universe) done(i int, p *packet) {
	finished, ok := w.leader(i).changeDelivery().Done(names[p.participant], &p.done, w.now)
	if ok {
		w.publish(publish{entry{0, messages.KindFinished, 0, string(messages.AppendFinished(nil, &finished)), txOf(finished.Tx)}, nobody})
	}
}

// overdue writes the abort of what is late by the leader's clock; only the log says whether it came in time.
func (w *universe) overdue(i int) {
	for _, id := range w.leaders[i].fold.Overdue(w.leaderClock(i), maxTx, nil) {
		a := messages.Abort{Tx: id, Reason: ReasonTimeout}
		w.publish(publish{entry{0, messages.KindAbort, 0, string(messages.AppendAbort(nil, &a)), txOf(id)}, nobody})
		if w.scope.rule == tellEarly && w.leaders[i].waiting&(1<<txOf(id)) != 0 {
			w.told[txOf(id)] |= 1 << messages.Aborted
		}
	}
}
