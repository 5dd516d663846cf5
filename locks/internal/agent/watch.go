// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"iter"
	"math"
	"slices"

	"github.com/assent-tx/assent/locks/internal/record"
)

// Idle tells whether the agent has nothing to do and nothing to remember but Known.
func (a *Agent) Idle() bool {
	return len(a.operations) == 0 && a.writing == nil && !a.reading && len(a.asking) == 0 && len(a.joins) == 0 && !a.doubt
}

// Busy tells whether the agent wants to be told of the time: something is waited for, or to be written or answered.
func (a *Agent) Busy() bool {
	return a.wanting() || a.noted != 0 || len(a.asking) > 0 || len(a.joins) > 0
}

// Watched is a session whose death matters, and its TTL in ms.
type Watched struct {
	Session string
	TTL     int64
}

// watched is how many of those who wait are watched.
const watched = 8

// Place is how many wait before the first of this session's own, as far as is known: 0 when one of them holds. The farther
// back a session is, the rarer it needs to look, so that many who wait do not look more often than a few.
func (a *Agent) Place() int {
	if len(a.operations) == 0 {
		return 0
	}
	least := math.MaxInt
	for _, op := range a.operations {
		least = min(least, a.ahead(op))
	}
	return least
}

// ahead is how many wait before a local operation, as far as is known.
func (a *Agent) ahead(op *operation) int {
	if op.state != waiting {
		return 0
	}
	if ahead := a.known.Ahead(op.ID); ahead >= 0 {
		return ahead
	}
	return max(op.ahead, 0)
}

// Still tells whether nothing has changed for so long that somebody may be dead.
func (a *Agent) Still() bool { return a.now-a.changed >= a.cfg.Poll }

// Watch gives the sessions whose death matters: those that are in the way of somebody who waits, and those next in the
// queue, so that several that died together are found dead together. A try does not stay for that.
func (a *Agent) Watch() []Watched {
	if a.guessed || !a.waited() {
		return nil
	}
	var sessions []Watched
	for op := range InTheWay(&a.known) {
		session := op.Session()
		if session != a.cfg.Self && !a.dead[session] && !slices.ContainsFunc(sessions, func(w Watched) bool { return w.Session == session }) {
			sessions = append(sessions, Watched{session, op.TTL})
		}
	}
	return sessions
}

// waited tells whether anybody waits whom this session answers for: its own operations, and as the keeper everybody's.
func (a *Agent) waited() bool {
	return a.doubt || len(a.known.Queue) > 0 && a.known.Keeper() == a.cfg.Self ||
		slices.ContainsFunc(a.joins, func(op record.Operation) bool { return !op.Try }) ||
		slices.ContainsFunc(a.operations, func(op *operation) bool { return op.state == leaving || op.state == waiting && !op.Try })
}

// InTheWay gives the operations that hold a version's key, and those that wait first.
func InTheWay(r *record.Record) iter.Seq[*record.Operation] { return operationsOf(r, watched) }

// operationsOf gives the operations that hold a version's key, and as many of those that wait.
func operationsOf(r *record.Record, waiting int) iter.Seq[*record.Operation] {
	return func(yield func(*record.Operation) bool) {
		for i := range r.Holders {
			if !yield(&r.Holders[i].Operation) {
				return
			}
		}
		for i := range r.Queue[:min(waiting, len(r.Queue))] {
			if !yield(&r.Queue[i]) {
				return
			}
		}
	}
}
