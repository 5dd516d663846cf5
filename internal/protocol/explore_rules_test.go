// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"

	"github.com/assent-tx/assent/messages"
)

// truth is what the log says about a transaction, by the rules of docs/protocol.md and nothing else: the whole log, no memory
// that forgets, no checkpoints.
type truth struct {
	known    bool
	expires  int64
	outcome  messages.Outcome
	at       uint64 // the sequence that decided it
	prepared [2]bool
	yes      [2]bool
	readOnly [2]bool
}

// truths reads the log, in order.
func (w *universe) readTruths() {
	w.truths = [maxTx]truth{}
	logTime := int64(0)
	var decoder messages.Decoder
	for i := range w.log {
		e := &w.log[i]
		logTime = max(logTime, e.at)
		for tx := range w.truths {
			if t := &w.truths[tx]; t.known && logTime > t.expires {
				t.decide(messages.Aborted, i)
			}
		}
		t := &w.truths[e.tx]
		switch e.kind {
		case messages.KindPrepare:
			var p messages.Prepare
			if decoder.Prepare([]byte(e.data), &p) != nil {
				panic(e.data)
			}
			t.prepared[e.participant] = true
			if !t.known {
				t.known, t.expires = true, p.Expires
			}
			if logTime > t.expires {
				t.decide(messages.Aborted, i)
			}
		case messages.KindVote:
			var v messages.VoteRecord
			if decoder.Vote([]byte(e.data), &v) != nil {
				panic(e.data)
			}
			t.vote(e.participant, &v, w.scope.participants, i)
		case messages.KindAbort:
			t.decide(messages.Aborted, i)
		default: // garbage and finished decide nothing
		}
	}
}

func (t *truth) vote(participant int, v *messages.VoteRecord, count, i int) {
	if !t.known || t.outcome != messages.Undecided {
		return
	}
	switch v.Vote {
	case messages.VoteNo:
		t.decide(messages.Aborted, i)
	case messages.VoteYes:
		t.yes[participant] = true
	case messages.VoteReadOnly:
		t.readOnly[participant] = true
	}
	for p := range count {
		if !t.yes[p] && !t.readOnly[p] {
			return
		}
	}
	t.decide(messages.Committed, i)
}

func (t *truth) decide(outcome messages.Outcome, i int) {
	if t.known && t.outcome == messages.Undecided {
		t.outcome, t.at = outcome, uint64(i+1)
	}
}

// check holds the world against what Assent promises.
func (w *universe) check() {
	for tx := range w.scope.transactions {
		t := &w.truths[tx]
		w.checkTold(tx, t)
		w.checkLeaders(tx, t)
		w.checkKeys(tx)
		for p := range w.scope.participants {
			w.checkStore(p, tx, t)
		}
	}
}

// checkTold: a client's answer is the log's.
func (w *universe) checkTold(tx int, t *truth) {
	for _, outcome := range []messages.Outcome{messages.Committed, messages.Aborted} {
		if w.told[tx]&(1<<outcome) != 0 && t.outcome != outcome {
			w.breaks("a client was told that transaction %d %v; the log says %v", tx, outcome, t.outcome)
		}
	}
}

// checkLeaders: every reader of a prefix of the log knows the outcome that the prefix gives, or nothing.
func (w *universe) checkLeaders(tx int, t *truth) {
	for i, l := range w.leaders {
		if l == nil {
			continue
		}
		v, known := l.fold.Lookup(ids[tx])
		expected := t.outcome
		if t.at > l.fold.Sequence() {
			expected = messages.Undecided
		}
		if known && v.Outcome != expected {
			w.breaks("leader %d, at sequence %d, knows transaction %d as %v; the log says %v", i, l.fold.Sequence(), tx, v.Outcome, expected)
		}
	}
}

// checkStore: agreement and validity, seen from the stores, and that nothing is executed twice.
func (w *universe) checkStore(p, tx int, t *truth) {
	s := &w.stores[p][tx]
	if s.applied > 1 {
		w.breaks("participant %s executed transaction %d twice", names[p], tx)
	}
	if s.applied > 0 && t.outcome != messages.Committed {
		w.breaks("participant %s committed transaction %d; the log says %v", names[p], tx, t.outcome)
	}
	if s.undone > 0 && t.outcome != messages.Aborted {
		w.breaks("participant %s rolled back transaction %d, which it had prepared; the log says %v", names[p], tx, t.outcome)
	}
	if t.outcome == messages.Committed && t.yes[p] && s.phase == absent {
		w.breaks("transaction %d is committed, but participant %s, which voted yes, holds nothing of it", tx, names[p])
	}
}

// unhealed says what has not come to its end; with no more faults, everything does.
func (w *universe) unhealed() string {
	for tx := range w.scope.transactions {
		t := &w.truths[tx]
		if t.known && t.outcome == messages.Undecided {
			return fmt.Sprintf("transaction %d is undecided", tx)
		}
		for p := range w.scope.participants {
			s := &w.stores[p][tx]
			if s.phase == prepared {
				return fmt.Sprintf("participant %s still holds transaction %d prepared", names[p], tx)
			}
			if executed := s.applied == 1; t.yes[p] && executed != (t.outcome == messages.Committed) {
				return fmt.Sprintf("transaction %d is %v, participant %s executed it %d times", tx, t.outcome, names[p], s.applied)
			}
		}
	}
	for i, l := range w.leaders[:w.scope.leaders] {
		if open, _ := l.fold.Len(); open != 0 || l.delivery.Len() != 0 {
			return fmt.Sprintf("leader %d has %d transactions open and owes %d", i, open, l.delivery.Len())
		}
	}
	for i, k := range w.workers[:w.scope.workers()] {
		if k.holds|k.asked != 0 {
			return fmt.Sprintf("instance %d still holds or wants keys: %b, %b", i, k.holds, k.asked)
		}
		if inHand, _ := k.branches.Len(); inHand != 0 {
			return fmt.Sprintf("instance %d has %d branches in hand", i, inHand)
		}
	}
	for i, holder := range w.holders {
		if w.log[i].kind == messages.KindPrepare && holder != gone {
			return fmt.Sprintf("the prepare at sequence %d was never acknowledged", i+1)
		}
	}
	if len(w.flying) > 0 {
		return "something is on its way to the log"
	}
	return ""
}
