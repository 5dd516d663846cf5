// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// The participant's shell and its store, as far as the protocol depends on them.

// workerSteps are what an instance may do next, or have done to it.
func (w *universe) workerSteps(i int, yield emit) {
	if w.workers[i] == nil {
		n := w.next()
		n.startWorker(i)
		yield(step{verb: "an instance starts", who: i}, n)
		return
	}
	k := w.workers[i]
	w.deliverSteps(i, yield)
	for j := range k.calls {
		w.callSteps(i, j, yield)
	}
	for j, vote := range k.stored {
		n := w.next()
		nk := n.worker(i)
		nk.stored = slices.Delete(nk.stored, j, j+1)
		nk.change().Voted(ids[vote.tx], vote.sequence, w.workerClock(i))
		n.settle(i, nk)
		yield(step{verb: "an instance's vote is stored", who: i, what: int(vote.sequence)}, n)
	}
	for j := range w.packets {
		if p := &w.packets[j]; p.participant == w.scope.participantOf(i) {
			n := w.next()
			nk := n.worker(i)
			verb := n.receive(i, nk, p)
			n.settle(i, nk)
			yield(step{verb, i, txOf(p.id()), p}, n)
		}
	}
	w.timerStep(i, yield)
	w.keySteps(i, yield)
	if w.left.crashes > 0 {
		n := w.next()
		n.left.crashes--
		n.killWorker(i)
		yield(step{verb: "an instance crashes", who: i}, n)
	}
}

func (p *packet) String() string {
	if p.outcome == messages.Undecided {
		return "done " + string(messages.AppendDone(nil, &p.done))
	}
	return p.outcome.String() + " " + string(messages.AppendEffect(nil, &p.effect))
}

func (p *packet) id() messages.ID {
	if p.outcome == messages.Undecided {
		return p.done.Tx
	}
	return p.effect.Tx
}

// receive takes a core message: an outcome, or another instance's done.
func (w *universe) receive(i int, k *worker, p *packet) string {
	if p.outcome == messages.Undecided {
		k.change().Heard(p.done.Tx, p.done.Vote)
		return "an instance overhears done"
	}
	k.change().Outcome(p.outcome, &p.effect, 0, "leader", w.workerClock(i))
	return "an instance hears"
}

// deliverSteps deliver prepares that the instance does not hold.
func (w *universe) deliverSteps(i int, yield emit) {
	for j, holder := range w.holders {
		e := &w.log[j]
		if e.kind != messages.KindPrepare || e.participant != w.scope.participantOf(i) || int(holder) == i {
			continue
		}
		n := w.next()
		if holder != nobody {
			if w.left.redeliveries == 0 {
				continue
			}
			n.left.redeliveries--
		}
		n.deliver(i, j)
		yield(step{"a prepare is delivered", i, j + 1, e}, n)
	}
}

func (w *universe) deliver(i, j int) {
	e := &w.log[j]
	w.holders = slices.Clone(w.holders)
	w.holders[j] = int8(i)
	k := w.worker(i)
	var decoder messages.Decoder
	var p messages.Prepare
	if decoder.Prepare([]byte(e.data), &p) != nil {
		panic(e.data)
	}
	k.change().Prepare(ids[e.tx], 0, p.Expires, w.workerClock(i), j)
	w.settle(i, k)
}

// settle does what the branches want, and puts the instance back into the world.
func (w *universe) settle(i int, k *worker) {
	steps := k.change().Take()
	for j := 0; j < len(steps); j++ {
		s := steps[j]
		tx := txOf(s.Tx)
		if w.lockKeys(i, k, &s) {
			steps = append(steps, k.change().Take()...)
			continue
		}
		switch s.Kind {
		case AskPrepare, AskFinish:
			if slices.ContainsFunc(k.calls, func(c call) bool { return c.tx == tx }) {
				w.breaks("instance %d: two calls of the handler for transaction %d at once", i, tx)
			}
			k.calls = append(k.calls, call{kind: s.Kind, tx: tx, outcome: s.Outcome})
			if s.Kind == AskPrepare && w.scope.rule == ackEarly {
				w.acknowledge(s.Token)
			}
		case CastVote:
			v := messages.VoteRecord{Tx: s.Tx, Vote: s.Vote, Reason: s.Reason, Held: s.Held, Conflict: s.Conflict}
			w.publish(publish{entry{0, messages.KindVote, w.scope.participantOf(i), string(messages.AppendVote(nil, &v)), tx}, i})
		case AckPrepare:
			w.acknowledge(s.Token)
		case SendDone:
			w.send(packet{participant: w.scope.participantOf(i), done: s.Done})
		case LeaveBranch:
			w.leave(i, k, tx)
		}
	}
	k.seal()
}

func (w *universe) acknowledge(token any) {
	w.holders = slices.Clone(w.holders)
	w.holders[number(token)] = gone
}

// callSteps let the store do what the handler was called for, or its answer arrive.
func (w *universe) callSteps(i, j int, yield emit) {
	c := w.workers[i].calls[j]
	if c.ran {
		n := w.next()
		n.answer(i, j)
		yield(step{"a handler answers", i, c.tx, c.vote}, n)
		return
	}
	ran := func(verb string, detail fmt.Stringer, n *universe) {
		if w.alone(i) {
			if w.left.crashes > 0 {
				crashed := n.next()
				crashed.left.crashes--
				crashed.killWorker(i)
				yield(step{crashing[verb], i, c.tx, detail}, crashed)
			}
			n.answer(i, j)
		}
		yield(step{verb, i, c.tx, detail}, n)
	}
	if c.kind == AskFinish {
		n := w.next()
		n.runFinish(i, j)
		ran("a handler finishes", c.outcome, n)
	} else {
		for _, vote := range w.scope.answers[w.scope.participantOf(i)] {
			if n := w.next(); n.runPrepare(i, j, vote) {
				ran("a handler prepares", vote, n)
			}
		}
	}
	if w.left.failures > 0 {
		n := w.next()
		n.left.failures--
		k := n.worker(i)
		k.calls = slices.Delete(k.calls, j, j+1)
		if c.kind == AskPrepare {
			k.change().Prepared(ids[c.tx], 0, "", w.workerClock(i))
		} else {
			k.change().Applied(ids[c.tx], false, "", w.workerClock(i))
		}
		n.settle(i, k)
		yield(step{verb: "a handler fails", who: i, what: c.tx}, n)
	}
}

var crashing = map[string]string{
	"a handler prepares": "a handler prepares, then crashes", "a handler finishes": "a handler finishes, then crashes",
}

// runPrepare makes the branch durable; what is there already is answered as before.
func (w *universe) runPrepare(i, j int, vote messages.Vote) bool {
	k := w.worker(i)
	c := &k.calls[j]
	s := &w.stores[w.scope.participantOf(i)][c.tx]
	if s.phase != absent && vote != messages.VoteYes {
		return false
	}
	if vote == messages.VoteYes && (s.phase == absent || w.scope.rule == forgetfulHand) {
		s.phase = prepared
	}
	c.vote = vote
	c.ran = true
	k.seal()
	return true
}

// runFinish commits or rolls back; for what is not prepared it does nothing.
func (w *universe) runFinish(i, j int) {
	k := w.worker(i)
	c := &k.calls[j]
	s := &w.stores[w.scope.participantOf(i)][c.tx]
	if s.phase == prepared {
		if c.outcome == messages.Committed {
			s.phase = committed
			s.applied++
		} else {
			s.phase = absent
			s.undone = 1
		}
	}
	c.ran = true
	k.seal()
}

func (w *universe) answer(i, j int) {
	k := w.worker(i)
	c := k.calls[j]
	k.calls = slices.Delete(k.calls, j, j+1)
	if c.kind == AskPrepare {
		k.change().Prepared(ids[c.tx], c.vote, "", w.workerClock(i))
	} else {
		k.change().Applied(ids[c.tx], true, "", w.workerClock(i))
	}
	w.settle(i, k)
}

// timerStep lets every timer of an instance fire. Repeating a vote is for a price, since it lengthens the log.
func (w *universe) timerStep(i int, yield emit) {
	n := w.next()
	k := n.worker(i)
	k.change().Tick(w.workerClock(i) + moment - 1)
	votes := len(n.flying)
	n.settle(i, k)
	switch {
	case k.digest() == w.workers[i].digest():
		return
	case len(n.flying) > votes:
		if w.left.doubts == 0 {
			return
		}
		n.left.doubts--
	}
	yield(step{verb: "an instance's timers fire", who: i}, n)
}

// killWorker ends an instance: what it holds in memory is gone, its prepares are delivered again, and its votes are on their
// way without anybody waiting for them.
func (w *universe) killWorker(i int) {
	w.workers[i] = nil
	w.holders, w.flying = slices.Clone(w.holders), slices.Clone(w.flying)
	for j := range w.holders {
		if int(w.holders[j]) == i {
			w.holders[j] = nobody
		}
	}
	for j := range w.flying {
		if w.flying[j].worker == i {
			w.flying[j].worker = nobody
		}
	}
	slices.SortFunc(w.flying, comparePublish)
}

// startWorker asks for the outcome of what the store holds prepared.
func (w *universe) startWorker(i int) {
	k := &worker{branches: NewBranches(BranchesConfig{Retry: 1, MaxRetry: 1, Doubt: 1, MaxDoubt: 1}), own: true}
	w.workers[i] = k
	w.ownWorkers |= 1 << i
	for tx := range w.scope.transactions {
		if !w.scope.noInDoubt && w.stores[w.scope.participantOf(i)][tx].phase == prepared {
			k.change().Recall(ids[tx], 0)
			w.guard(k, tx)
		}
	}
	w.settle(i, k)
}
