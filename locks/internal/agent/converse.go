// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"

	"github.com/assent-tx/assent/locks/internal/record"
)

// passesOn tells whether an ask goes on to the session that is known to be the keeper by now, so that who asks does not run
// after a key that changes hands fast. Its revision grows on the way, so the way ends.
func (a *Agent) passesOn(ask *Ask, keeper string) bool {
	return a.writing == nil && !a.stale && ask.Revision < a.revision && len(ask.Join)+len(ask.Leave) > 0 &&
		keeper != "" && keeper != a.cfg.Self && keeper != ask.From
}

// takeOver takes what others want.
func (a *Agent) takeOver(joins []record.Operation, leaves []string) {
	for _, op := range joins {
		if op.Session() != a.cfg.Self && !slices.Contains(a.leaves, op.ID) && !slices.ContainsFunc(a.joins, func(o record.Operation) bool { return o.ID == op.ID }) {
			a.joins = append(a.joins, op)
		}
	}
	for _, id := range leaves {
		if record.Session(id) != a.cfg.Self && !slices.Contains(a.leaves, id) {
			a.leaves = append(a.leaves, id)
		}
		a.dropForeignJoin(id)
	}
}

// tellOf tells those whom a write concerns: who came in, who went out, and who has to write from now on.
func (a *Agent) tellOf(before *record.Record) {
	var sessions []string
	concern := func(session string) {
		if session != a.cfg.Self && !slices.Contains(sessions, session) {
			sessions = append(sessions, session)
		}
	}
	for i := range a.known.Holders {
		if before.Holder(a.known.Holders[i].ID) == nil {
			concern(a.known.Holders[i].Session())
		}
	}
	for i := range before.Holders {
		if a.known.Holder(before.Holders[i].ID) == nil {
			concern(before.Holders[i].Session())
		}
	}
	keeper := a.known.Keeper()
	if keeper != "" && keeper != before.Keeper() {
		concern(keeper)
	}
	a.leaves = slices.DeleteFunc(a.leaves, func(id string) bool {
		if !a.known.Has(id) && !slices.Contains(a.asking, record.Session(id)) {
			concern(record.Session(id))
		}
		return !a.known.Has(id)
	})
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool { return a.known.Has(op.ID) })
	handOver := keeper != "" && keeper != a.cfg.Self
	for _, session := range sessions {
		tell := a.tell()
		if handOver && session == keeper { // what came too late for the write goes with the key
			tell.Join, tell.Leave = slices.Clone(a.joins), slices.Clone(a.leaves)
		}
		a.effect(Effect{Tell: tell, To: session})
	}
	if handOver && slices.Contains(sessions, keeper) {
		a.handedOver(keeper)
	}
}

// handedOver forgets what the new keeper was told to take over, and tells those whom it is about.
func (a *Agent) handedOver(keeper string) {
	for i := range a.joins {
		session := a.joins[i].Session()
		if op := a.operation(a.joins[i].ID); op != nil {
			op.asked, op.askedAt, op.noted, op.notedAt, op.fresh = keeper, a.now, true, a.revision, false
			continue
		}
		noted := []Noted{{a.joins[i].ID, len(a.known.Queue) + i}}
		a.effect(Effect{Tell: &Tell{From: a.cfg.Self, Revision: a.revision, Keeper: keeper, Noted: noted}, To: session})
		a.asking = slices.DeleteFunc(a.asking, func(s string) bool { return s == session })
	}
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool { return op.Session() != a.cfg.Self })
	a.leaves = nil
}

func (a *Agent) tell() *Tell {
	known := a.known.Clone()
	return &Tell{From: a.cfg.Self, Revision: a.revision, Record: &known}
}

// answer tells those who asked how things stand.
func (a *Agent) answer(want *record.Record, refused []refusal) {
	keeper := a.known.Keeper() == a.cfg.Self
	for _, session := range a.asking {
		tell := &Tell{From: a.cfg.Self, Revision: a.revision}
		if keeper {
			a.note(tell, session, want, refused)
		}
		if len(tell.Noted) == 0 || len(tell.Refused) > 0 {
			tell = a.tell()
			if keeper {
				a.note(tell, session, want, refused)
			}
		} else {
			tell.Keeper = a.cfg.Self
		}
		a.effect(Effect{Tell: tell, To: session})
	}
	a.asking = nil
	a.joins = slices.DeleteFunc(a.joins, func(op record.Operation) bool {
		if op.Session() == a.cfg.Self {
			return false
		}
		return !keeper || !want.Has(op.ID) // not ours to take, or refused
	})
	a.leaves = slices.DeleteFunc(a.leaves, func(id string) bool { return !keeper || !a.known.Has(id) })
}

// note tells a session which of its operations wait though the record does not have them, and which are not taken.
func (a *Agent) note(tell *Tell, session string, want *record.Record, refused []refusal) {
	for i := range want.Queue {
		if id := want.Queue[i].ID; record.Session(id) == session && !a.known.Has(id) {
			tell.Noted = append(tell.Noted, Noted{id, i})
		}
	}
	for i := range refused {
		if refused[i].Session() == session {
			tell.Refused = append(tell.Refused, Refused{refused[i].ID, refused[i].why})
		}
	}
}

// ask asks the keeper for what local operations want and the record has not. Those that are refused hastily wait for what is read.
func (a *Agent) ask(hasty []refusal) {
	keeper := a.known.Keeper()
	if keeper == "" || keeper == a.cfg.Self {
		return
	}
	ask := &Ask{From: a.cfg.Self, Revision: a.revision}
	for _, id := range a.sorted() {
		op := a.operation(id)
		switch {
		case op.state == held, op.state == waiting && a.known.Has(id), slices.ContainsFunc(hasty, func(r refusal) bool { return r.ID == id }):
			continue
		case op.state == waiting && op.noted && op.notedAt >= a.revision && a.now-op.askedAt < a.cfg.Poll:
			continue // its keeper may be one that is not known here yet
		case op.asked == keeper && a.now-op.askedAt < a.patience(op):
			continue
		case op.asked == keeper && !op.noted && !op.answered:
			op.unheard++
		case op.asked == keeper:
			op.noted = false
		default:
			op.unheard, op.noted = 0, false
		}
		op.asked, op.askedAt, op.answered, op.fresh = keeper, a.now, false, false
		if op.state == leaving {
			ask.Leave = append(ask.Leave, id)
		} else {
			ask.Join = append(ask.Join, op.Operation)
		}
	}
	if len(ask.Join)+len(ask.Leave) > 0 {
		ask.Leave = append(ask.Leave, a.gone()...)
		a.effect(Effect{Ask: ask, To: keeper})
	}
}

// gone are the operations of sessions that have ended, as far as the known version has them.
func (a *Agent) gone() (ids []string) {
	for op := range operationsOf(&a.known, len(a.known.Queue)) {
		if a.dead[op.Session()] {
			ids = append(ids, op.ID)
		}
	}
	return ids
}

// patience is how long nothing more is asked for an operation.
func (a *Agent) patience(op *operation) int64 {
	if op.noted || op.answered {
		return a.cfg.Poll
	}
	return a.cfg.Answer
}

// sorted are the local operations' ids, those first that are in no record yet, each in the order in which they came.
func (a *Agent) sorted() []string {
	ids := make([]string, 0, len(a.operations))
	for _, op := range a.joins {
		if a.operation(op.ID) != nil {
			ids = append(ids, op.ID)
		}
	}
	for _, op := range a.operations {
		if !slices.Contains(ids, op.ID) {
			ids = append(ids, op.ID)
		}
	}
	return ids
}
