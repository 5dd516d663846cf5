// SPDX-License-Identifier: Apache-2.0

package protocol

// The keys of branches, as far as the protocol depends on them: that they are held until nothing of the branch is, that a handler
// is asked when they are granted, and that a branch may be wounded at any moment. Who holds which is internal/keylock's.

// keySteps grant keys that are waited for, and wound what holds some.
func (w *universe) keySteps(i int, yield emit) {
	for tx := range w.scope.transactions {
		if w.workers[i].asked&(1<<tx) != 0 {
			n := w.next()
			k := n.worker(i)
			k.asked &^= 1 << tx
			k.granted |= 1 << tx
			k.change().Granted(ids[tx], w.workerClock(i))
			n.settle(i, k)
			yield(step{verb: "keys are granted", who: i, what: tx}, n)
		}
		if w.left.wounds > 0 && w.workers[i].holds&(1<<tx) != 0 {
			n := w.next()
			n.left.wounds--
			k := n.worker(i)
			k.change().Wound(ids[tx], "")
			n.settle(i, k)
			if k.digest() != w.workers[i].digest() {
				yield(step{verb: "a branch is wounded", who: i, what: tx}, n)
			}
		}
	}
}

// lockKeys is between the branches and the handler; it is true when the handler is not to be asked.
func (w *universe) lockKeys(i int, k *worker, s *Step) bool {
	tx := txOf(s.Tx)
	switch {
	case !w.scope.keys:
	case w.scope.noWait && s.Kind == AskPrepare && k.holds&^(1<<tx) != 0 && w.scope.rule != holdTwice:
		k.change().Wait(s.Tx, "")
		k.change().Wound(s.Tx, "")
		return true
	case w.scope.noWait && s.Kind == AskPrepare:
		w.guard(k, tx)
	case s.Kind == AskPrepare && w.scope.participantOf(i) == 0 && k.granted&(1<<tx) == 0:
		k.change().Wait(s.Tx, "")
		k.asked |= 1 << tx
		return true
	case s.Kind == AskPrepare:
		w.guard(k, tx)
	case s.Kind == AskFinish, s.Kind == CastVote:
		k.asked &^= 1 << tx
		if w.scope.rule == letGo && s.Kind == CastVote && s.Conflict {
			k.holds &^= 1 << tx
		}
	}
	return false
}

// guard has the keys of a branch held until it is left.
func (w *universe) guard(k *worker, tx int) {
	if w.scope.keys {
		k.change().Guard(ids[tx])
		k.granted |= 1 << tx
		k.holds |= 1 << tx
	}
}

// leave lets the keys of a branch go.
func (w *universe) leave(i int, k *worker, tx int) {
	if !w.scope.keys {
		w.breaks("instance %d leaves transaction %d, which nobody asked for", i, tx)
	}
	k.asked &^= 1 << tx
	k.granted &^= 1 << tx
	k.holds &^= 1 << tx
}

// checkKeys: whatever the only instance's store holds prepared has its keys, as long as the instance lives.
func (w *universe) checkKeys(tx int) {
	for i, k := range w.workers[:w.scope.workers()] {
		if w.scope.keys && k != nil && w.alone(i) && w.stores[w.scope.participantOf(i)][tx].phase == prepared && k.holds&(1<<tx) == 0 {
			w.breaks("instance %d holds transaction %d prepared, and its keys are free", i, tx)
		}
		if w.scope.noWait && k != nil && k.holds&(k.holds-1) != 0 {
			w.breaks("two transactions hold the key of instance %d", i)
		}
	}
}
