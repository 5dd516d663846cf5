// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// step is what led from one world to the next. The detail is only read when something was found: most steps lead to worlds that
// are known already.
type step struct {
	verb      string
	who, what int
	detail    fmt.Stringer
}

func (s step) String() string {
	text := fmt.Sprintf("%-28s %2d %2d", s.verb, s.who, s.what)
	if s.detail != nil {
		text += "  " + s.detail.String()
	}
	return text
}

// emit takes a successor.
type emit func(step, *universe)

// successors are all worlds that may come next.
func (w *universe) successors(yield emit) {
	w.logSteps(yield)
	for i := range w.scope.leaders {
		w.leaderSteps(i, yield)
	}
	for i := range w.scope.workers() {
		w.workerSteps(i, yield)
	}
	if w.left.moments > 0 {
		n := w.next()
		n.left.moments--
		n.now += moment
		yield(step{verb: "a moment passes"}, n)
	}
}

// logSteps append what is on its way.
func (w *universe) logSteps(yield emit) {
	if len(w.log) >= w.scope.maxLog {
		return
	}
	if w.left.garbage > 0 {
		n := w.next()
		n.left.garbage--
		n.append(garbage, w.now)
		yield(step{verb: "the log appends garbage", what: len(n.log)}, n)
	}
	for i := range w.flying {
		p := &w.flying[i]
		if i > 0 && w.flying[i-1] == *p {
			continue
		}
		n := w.next()
		n.flying = slices.Delete(slices.Clone(n.flying), i, i+1)
		n.append(*p, w.now)
		yield(step{"the log appends", i, len(n.log), p}, n)
		if w.left.duplicates > 0 {
			n := w.next()
			n.left.duplicates--
			n.flying = slices.Clone(n.flying)
			n.flying[i].worker = nobody
			slices.SortFunc(n.flying, comparePublish)
			n.append(*p, w.now)
			yield(step{"the log appends, to do again", i, len(n.log), p}, n)
		}
		if w.left.skews > 0 {
			for _, skew := range []int64{-moment, moment} {
				n := w.next()
				n.left.skews--
				n.flying = slices.Delete(slices.Clone(n.flying), i, i+1)
				n.append(*p, w.now+skew)
				yield(step{"the log appends, skewed", i, len(n.log), p}, n)
			}
		}
	}
}

// garbage is a message that somebody put into the log.
var garbage = publish{entry{kind: messages.KindUnknown, data: "garbage"}, nobody}

func (e *entry) String() string {
	who := ""
	if e.kind == messages.KindPrepare || e.kind == messages.KindVote {
		who = " " + names[e.participant]
	}
	return e.kind.String() + who + " " + e.data
}

// alone: an instance that is its participant's only one. Nobody else uses its store, so what the store does and that the
// instance hears of it may be one step; so may the storing of a vote, in a scope without crashes.
func (w *universe) alone(worker int) bool {
	return worker >= w.scope.instances || w.scope.instances == 1
}

func (w *universe) append(p publish, at int64) {
	p.entry.at = at
	w.log = append(w.log, p.entry)
	w.logged = digestBytes(p.entry.append(w.logged.append(nil)))
	w.holders = append(slices.Clip(w.holders), nobody)
	if p.kind != messages.KindPrepare {
		w.holders[len(w.holders)-1] = gone
	}
	w.readTruths()
	if p.worker != nobody {
		k := w.worker(p.worker)
		if w.alone(p.worker) && w.scope.crashes == 0 {
			k.change().Voted(ids[p.tx], uint64(len(w.log)), w.workerClock(p.worker))
			w.settle(p.worker, k)
			return
		}
		k.stored = append(k.stored, storedVote{p.tx, uint64(len(w.log))})
		k.seal()
	}
}
