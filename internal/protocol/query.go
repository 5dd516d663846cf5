// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"iter"

	"github.com/assent-tx/assent/messages"
)

// View is what a fold knows of a transaction.
type View struct {
	Tx      messages.ID
	Outcome messages.Outcome
	// Participant refused it, and Reason says why it was aborted.
	Participant, Reason string
	// WrongOwner and Conflict: see Verdict.
	WrongOwner uint64
	Conflict   bool
	// Expires is in Unix milliseconds of log time.
	Expires int64
	// Finished: every participant is done; what follows is then empty.
	Finished bool
	Branches []BranchView
}

// BranchView is what a fold knows of one participant's branch.
type BranchView struct {
	Participant string
	// Prepared: its prepare record is in the log.
	Prepared bool
	// Vote is the participant's vote, zero for none.
	Vote messages.Vote
}

// Verdict is how a transaction was decided, and why; the zero Verdict is an undecided one's.
type Verdict struct {
	Outcome messages.Outcome
	// Participant refused it, and Reason says why it was aborted.
	Participant, Reason string
	// WrongOwner is the epoch of Participant's ring, if it refused because a key has moved; else 0.
	WrongOwner uint64
	// Conflict: Participant refused because the transaction met another one on a key.
	Conflict bool
}

// Lookup tells how an unfinished or remembered transaction was decided, without allocating; known is false for one that
// the fold does not know or has forgotten.
func (f *Fold) Lookup(id messages.ID) (v Verdict, known bool) {
	if tx := f.open[id]; tx != nil {
		return tx.refusal.verdict(tx.outcome), true
	}
	p, ok := f.memory.peek(id)
	return p.refusal.verdict(p.outcome), ok
}

func (r *refusal) verdict(outcome messages.Outcome) Verdict {
	return Verdict{outcome, r.refuser, r.reason, r.wrongOwner, r.conflict}
}

// View is all that the fold knows of a transaction.
func (f *Fold) View(id messages.ID) (View, bool) {
	if tx := f.open[id]; tx != nil {
		return tx.view(), true
	}
	p, ok := f.memory.peek(id)
	return View{
		Tx: id, Outcome: p.outcome, Participant: p.refuser, Reason: p.reason, WrongOwner: p.wrongOwner, Conflict: p.conflict,
		Expires: p.expires, Finished: true,
	}, ok
}

// Open steps through the unfinished transactions, in no order.
func (f *Fold) Open() iter.Seq[View] {
	return func(yield func(View) bool) {
		for _, tx := range f.open {
			if !yield(tx.view()) {
				return
			}
		}
	}
}

func (tx *transaction) view() View {
	v := View{
		Tx: tx.id, Outcome: tx.outcome, Participant: tx.refuser, Reason: tx.reason, WrongOwner: tx.wrongOwner, Conflict: tx.conflict,
		Expires: tx.expires, Branches: make([]BranchView, len(tx.participants)),
	}
	for i, name := range tx.participants {
		bit := uint64(1) << i
		b := BranchView{Participant: name, Prepared: tx.prepared&bit != 0}
		switch {
		case tx.yes&bit != 0:
			b.Vote = messages.VoteYes
		case tx.no&bit != 0 || name == tx.refuser:
			b.Vote = messages.VoteNo
		case tx.readOnly&bit != 0:
			b.Vote = messages.VoteReadOnly
		}
		v.Branches[i] = b
	}
	return v
}

// First is what a transaction's first prepare fixed for all others.
type First struct {
	// Participants are the fold's: they must not be changed, and are valid until the next Message.
	Participants   []string
	Expires, Since int64
	Routing        uint64
}

// Missing appends to names the participants of an undecided transaction whose prepare is not in the log, and gives
// what the first one fixed: what a repeated submission has to write again after a leader's crash, if it is routed as the
// first one was.
func (f *Fold) Missing(id messages.ID, names []string) (missing []string, first First) {
	tx := f.open[id]
	if tx == nil || tx.outcome != messages.Undecided {
		return names, First{}
	}
	for i, name := range tx.participants {
		if tx.prepared&(1<<i) == 0 {
			names = append(names, name)
		}
	}
	return names, First{tx.participants, tx.expires, tx.since, tx.routing}
}

// Overdue appends to ids at most limit undecided transactions whose expiry is before now, a wall clock's Unix
// milliseconds: time to write their abort. The log alone says whether it came in time.
func (f *Fold) Overdue(now int64, limit int, ids []messages.ID) []messages.ID {
	if limit <= 0 {
		return ids
	}
	limit += len(ids)
	f.expires.before(now, func(id messages.ID) bool {
		if tx := f.open[id]; tx != nil && tx.outcome == messages.Undecided {
			ids = append(ids, id)
		}
		return len(ids) < limit
	})
	return ids
}

// Checkpoint is where a reader that knows nothing may start, now or later, and learn all that this fold still knows. Its
// Sequence never goes back.
func (f *Fold) Checkpoint() Checkpoint {
	lowest := f.memory.lowest()
	for _, tx := range f.open {
		lowest = lowest.lower(tx.first)
	}
	through := max(f.sequence, f.forgotten.through)
	if f.stopped != nil { // a reader that knows the newer version has to read it
		lowest = lowest.lower(position{f.sequence, f.before})
		through = max(f.sequence-1, f.forgotten.through)
	}
	if lowest == nowhere {
		lowest = position{f.sequence + 1, f.logTime}
	}
	return Checkpoint{
		Sequence: lowest.sequence, LogTime: lowest.logTime, Floor: f.memory.floor,
		Through: through, Skip: f.forgotten.skipped(lowest.sequence),
	}
}

// LogTime is the running maximum of the timestamps read, in Unix milliseconds.
func (f *Fold) LogTime() int64 { return f.logTime }

// Sequence is that of the message read last.
func (f *Fold) Sequence() uint64 { return f.sequence }

// Floor is the newest id time, in Unix milliseconds, of the transactions that were forgotten.
func (f *Fold) Floor() int64 { return f.memory.floor }

// Len counts the transactions that are unfinished and those that are remembered.
func (f *Fold) Len() (open, remembered int) { return len(f.open), len(f.memory.entries) }

// Stats counts what was ignored.
func (f *Fold) Stats() FoldStats { return f.stats }
