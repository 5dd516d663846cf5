// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"slices"

	"github.com/assent-tx/assent/messages"
)

// healRounds are enough for everything to end that ever does.
const healRounds = 24

// heal is the world some time later, with no more faults: every message arrives, everybody runs, time passes. What was sent
// and not received is lost first; with restart, so is what every process knew and wrote without anybody waiting for it.
func (w *universe) heal(restart bool) *universe {
	calm := *w.scope
	calm.maxLog = 1 << 20
	n := w.next()
	n.scope, n.packets = &calm, nil
	if restart {
		for i := range calm.leaders {
			n.leaders[i] = nil
		}
		for i := range calm.workers() {
			n.killWorker(i)
		}
		n.flying = nil
	}
	for i := range calm.workers() {
		if n.workers[i] == nil {
			n.startWorker(i)
		}
	}
	unhealed := "it was never tried"
	for round := 0; round < healRounds && unhealed != "" && n.broken == ""; round++ {
		n.healRound(round)
		n.check()
		unhealed = n.unhealed()
	}
	if unhealed != "" {
		n.breaks("healed, but %s", unhealed)
	}
	return n
}

func (w *universe) healRound(round int) {
	w.now += moment
	w.flush()
	for i := range w.scope.leaders {
		if w.at(i) < w.trimmed { // it finds out with the next message: life goes on
			w.append(garbage, w.now)
		}
	}
	for i := range w.scope.leaders {
		w.healLeader(i)
	}
	packets := w.packets
	w.packets = nil
	for j := range packets {
		w.healPacket(&packets[j], round)
	}
	for i := range w.scope.workers() {
		w.healWorker(i)
	}
	for j, holder := range w.holders {
		if holder == nobody {
			w.deliver(w.instanceOf(w.log[j].participant, round), j)
		}
	}
}

func (w *universe) healLeader(i int) {
	for more := true; more; {
		if w.leaders[i] == nil {
			w.startLeader(i)
		}
		more = w.read(i)
	}
	w.overdue(i)
	l := w.leader(i)
	l.changeDelivery().Tick(w.now)
	w.carryOut(l)
}

// healPacket brings an effect to one of the participant's instances, each in its turn, and a done to everybody.
func (w *universe) healPacket(p *packet, round int) {
	if p.outcome != messages.Undecided {
		i := w.instanceOf(p.participant, round)
		k := w.worker(i)
		w.receive(i, k, p)
		w.settle(i, k)
		return
	}
	for i := range w.scope.leaders {
		w.done(i, p)
	}
	for i := range w.scope.workers() {
		if w.scope.participantOf(i) == p.participant {
			k := w.worker(i)
			w.receive(i, k, p)
			w.settle(i, k)
		}
	}
}

func (w *universe) instanceOf(participant, round int) int {
	if participant == 0 {
		return round % w.scope.instances
	}
	return w.scope.instances
}

func (w *universe) healWorker(i int) {
	k := w.worker(i)
	k.change().Tick(w.workerClock(i) + moment - 1)
	w.settle(i, k)
	for tx := range w.scope.transactions {
		if w.workers[i].asked&(1<<tx) != 0 {
			k := w.worker(i)
			k.asked &^= 1 << tx
			k.granted |= 1 << tx
			k.change().Granted(ids[tx], w.workerClock(i))
			w.settle(i, k)
		}
	}
	for len(w.workers[i].stored) > 0 {
		k := w.worker(i)
		vote := k.stored[0]
		k.stored = slices.Delete(k.stored, 0, 1)
		k.change().Voted(ids[vote.tx], vote.sequence, w.workerClock(i))
		w.settle(i, k)
	}
	for len(w.workers[i].calls) > 0 {
		switch c := w.workers[i].calls[0]; {
		case c.ran:
			w.answer(i, 0)
		case c.kind == AskFinish:
			w.runFinish(i, 0)
		case !w.runPrepare(i, 0, w.scope.answers[w.scope.participantOf(i)][0]):
			w.runPrepare(i, 0, messages.VoteYes)
		}
	}
}
