// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"slices"

	"github.com/assent-tx/assent/locks/internal/record"
)

// step decides what to do, by the state alone: so it does not matter which event came, or came twice, or did not come.
func (a *Agent) step() []Effect {
	if a.writing == nil && !a.reading && a.now >= a.pause {
		a.decide()
	}
	effects := a.effects
	a.effects = nil
	return effects
}

func (a *Agent) decide() {
	if a.stale || a.guessed && !a.wanting() {
		if a.wanting() || len(a.asking) > 0 {
			a.read()
		} else { // nothing is wanted here, and whoever wants something asks again
			a.joins, a.leaves = nil, nil
		}
		return
	}
	if len(a.joins)+len(a.asking) == 0 && !a.mayWrite() {
		a.settle(nil)
		a.ask(nil)
		a.poll()
		return
	}
	want, refused := a.wanted()
	if a.mayWrite() && a.hurries(&want) {
		a.write(want)
		return
	}
	if a.guessed { // nothing to write on a guess
		a.read()
		return
	}
	refused, hasty := a.sure(refused)
	a.settle(refused)
	a.answer(&want, refused)
	a.ask(hasty)
	if len(hasty) > 0 {
		a.read()
		return
	}
	a.poll()
}

// sure parts the refusals that hold from the hasty ones: those of local operations by a version that may have been replaced before they came.
// A keeper knows the newest version; everybody else has to hear of what was stored while the operation was there.
func (a *Agent) sure(refused []refusal) (sure, hasty []refusal) {
	keeper := a.known.Keeper() == a.cfg.Self
	for _, r := range refused {
		if op := a.operation(r.ID); keeper || op == nil || op.came < a.answered {
			sure = append(sure, r)
		} else {
			hasty = append(hasty, r)
		}
	}
	return sure, hasty
}

// poll reads the record when something is waited for and nothing was heard. Who is next in the queue also makes the keeper
// look, because it may not know that it holds: it may have missed that it was granted what it does not want any more.
func (a *Agent) poll() {
	for _, op := range a.operations {
		if op.state == held || a.now-a.heard < a.pollTime(op) && (op.unheard == 0 || a.now-a.heard < a.cfg.Answer) {
			continue
		}
		if keeper := a.known.Keeper(); a.known.Ahead(op.ID) == 0 && keeper != a.cfg.Self {
			a.effect(Effect{Ask: &Ask{From: a.cfg.Self, Revision: a.revision}, To: keeper})
		}
		a.read()
		return
	}
}

// Those who wait look at the record at a pace: the first pollers of a queue every Poll, the next as many half as often, and so
// on, but the slowest only slowestPoll times slower. So it is not n reads for n who wait, and a grant of which the message
// was lost is found out soon all the same, also by one that does not know yet how far it has come.
const (
	pollers     = 8
	slowestPoll = 8
)

// pollTime is how long an operation hears nothing before the record is read.
func (a *Agent) pollTime(op *operation) int64 {
	return a.cfg.Poll * int64(min(1+a.ahead(op)/pollers, slowestPoll))
}

// wanting tells whether a local operation wants something.
func (a *Agent) wanting() bool {
	for _, op := range a.operations {
		if op.state != held {
			return true
		}
	}
	return a.doubt
}

func (a *Agent) read() {
	a.reading = true
	a.requests++
	a.effect(Effect{Read: true})
}

func (a *Agent) write(r record.Record) {
	r.Foreign = false
	r.Granted(a.cfg.Epoch + a.now)
	a.writing = &Write{Expected: a.revision, Record: r}
	a.requests++
	a.effect(Effect{Write: &Write{Expected: a.revision, Record: r.Clone()}})
}

// refusal is an operation that was not taken.
type refusal struct {
	record.Operation
	why Reason
}

// wanted is the known version with everything done to it that is known to be wanted.
func (a *Agent) wanted() (record.Record, []refusal) {
	r := a.known.Clone()
	for session := range a.dead {
		r.Evict(session)
	}
	for _, id := range a.strays(&r) {
		r.Leave(id)
	}
	for _, id := range a.leaves {
		r.Leave(id)
	}
	var refused []refusal
	keeper := a.known.Keeper() == a.cfg.Self
	for _, op := range a.joins {
		if a.dead[op.Session()] || !keeper && op.Session() != a.cfg.Self { // others are the keeper's business
			continue
		}
		switch err := r.Join(op); {
		case errors.Is(err, record.ErrBusy):
			refused = append(refused, refusal{op, Busy})
		case errors.Is(err, record.ErrFull):
			refused = append(refused, refusal{op, Full})
		case errors.Is(err, record.ErrPermits):
			refused = append(refused, refusal{op, Permits})
		}
	}
	return r, refused
}

// strays are operations of this session in a record that nobody here wants there: they leave, or they are of a call that
// ended without knowing that its write was stored.
func (a *Agent) strays(r *record.Record) (ids []string) {
	for stored := range operationsOf(r, len(r.Queue)) {
		if op := a.operation(stored.ID); stored.Session() == a.cfg.Self && (op == nil || op.state == leaving) {
			ids = append(ids, stored.ID)
		}
	}
	return ids
}

// mayWrite tells whether this session writes the record: nobody holds the key, or this session is the keeper, or the keeper
// is dead, or it does not answer.
func (a *Agent) mayWrite() bool {
	keeper := a.known.Keeper()
	if keeper == "" || keeper == a.cfg.Self || a.dead[keeper] || a.doubt {
		return true
	}
	for _, op := range a.operations {
		if op.unheard >= a.cfg.Patience {
			return true
		}
	}
	return false
}

// hurries tells whether a version is to be written now.
func (a *Agent) hurries(want *record.Record) bool {
	switch {
	case a.doubt && a.revision <= a.unsettled:
		return true // what is written now, or what was written before: one of them will be stored
	case !want.SameHolders(&a.known):
		return true
	case want.Same(&a.known):
		a.noted = 0
		return false
	case a.known.Keeper() != a.cfg.Self:
		return true // an operation that the keeper did not hear of
	}
	if a.noted == 0 {
		a.noted = a.now
	}
	return a.now-a.noted >= a.cfg.Persist
}

// settle ends local operations that are out of the record for good, and those that are not taken.
func (a *Agent) settle(refused []refusal) {
	keeper := a.known.Keeper()
	for _, r := range refused {
		if op := a.operation(r.ID); op != nil && op.state == waiting {
			a.end(op, r.why)
			if keeper != "" && keeper != a.cfg.Self { // should it not know that it holds, it learns so
				a.effect(Effect{Ask: &Ask{From: a.cfg.Self, Revision: a.revision}, To: keeper})
			}
		}
	}
	for _, op := range slices.Clone(a.operations) {
		if op.state != leaving || a.known.Has(op.ID) {
			continue
		}
		switch {
		case a.forced(op):
			a.end(op, Forced)
		case a.known.Foreign && op.token != 0:
			a.end(op, Gone)
		case a.doubt:
		case op.token != 0, keeper == "", keeper == a.cfg.Self, op.answered, op.fresh:
			a.end(op, "")
		}
	}
}
