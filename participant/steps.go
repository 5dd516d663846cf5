// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/panics"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// do gives an event to the branches and carries out the steps that follow.
func (p *Participant) do(event func(b *protocol.Branches, now int64)) {
	p.mu.Lock()
	event(p.branches, p.clock.Now())
	p.carryOut()
}

// carryOut carries out the branches' steps; mu is held, and given up. What is left is settled before, so that the claim and the
// keys of another life of the branch cannot be meant. Then votes and dones come first, and each kind leaves together; what may
// wait for a handler's place comes last.
func (p *Participant) carryOut() {
	steps := p.lockKeys(p.branches.Take())
	p.mu.Unlock()
	if len(steps) == 0 {
		return
	}
	p.votes.Hold()
	p.dones.Hold()
	for i := range steps {
		switch s := &steps[i]; s.Kind {
		case protocol.CastVote:
			p.cast(s)
		case protocol.SendDone:
			p.answer(s)
		default: // before, and below
		}
	}
	p.votes.Release()
	p.dones.Release()
	p.claim(steps)
	for i := range steps {
		p.perform(&steps[i])
	}
	p.mu.Lock()
	p.branches.Spent(steps)
	p.mu.Unlock()
}

func (p *Participant) perform(s *protocol.Step) {
	switch s.Kind {
	case protocol.AskPrepare:
		p.caller.prepare(record(s).branch)
	case protocol.AskFinish:
		p.dones.Hold() // until finished hears of it
		p.caller.finish(Outcome{Tx: s.Tx, Commit: s.Outcome == messages.Committed})
	case protocol.AckPrepare:
		p.ack(record(s).delivery)
	case protocol.CastVote, protocol.SendDone, protocol.LeaveBranch: // carried out already
	case notClaimed: // answered already
	}
}

// record is what a step is about: onPrepare gave it with the prepare.
func record(s *protocol.Step) *prepared {
	return s.Token.(*prepared) //nolint:errcheck // nothing else is ever given
}

// answer gives a done to be sent. It waits for those of the outcomes that are being applied now, and leaves with them, but after a tick at
// the latest: nobody waits for it, and the leader lets what follows from it gather for a tick, too. One that is not sent, because
// the instance dies before, is asked for again.
func (p *Participant) answer(s *protocol.Step) {
	done := messages.AppendDone(make([]byte, 0, 96), &s.Done)
	_ = p.dones.Append(context.Background(), s.Reply, done, struct{}{})
	crash.Here("participant.done.held")
}

// cast gives a vote to the group commit. When that drains already, the vote is cast by who takes the branch up next.
func (p *Participant) cast(s *protocol.Step) {
	vote := messages.AppendVote(make([]byte, 0, 96), &messages.VoteRecord{
		Tx: s.Tx, Vote: s.Vote, Reason: s.Reason, Held: s.Held, WrongOwner: s.WrongOwner, Conflict: s.Conflict,
	})
	_ = p.votes.Append(context.Background(), p.marks.voteSubject(s.Shard), vote, s.Tx)
}

// voted hears, in a lane's goroutine, that the log has a message of votes.
func (p *Participant) voted(subject string, txs []messages.ID, sequence uint64, err error) {
	if err != nil {
		return // only when the instance ends: the prepares come again
	}
	crash.Here("participant.vote.stored")
	p.marks.saw(subject, sequence)
	p.mu.Lock()
	now := p.clock.Now()
	for _, tx := range txs {
		p.branches.Voted(tx, sequence, now)
	}
	p.carryOut() // no vote follows: the lane's own goroutine must not wait for room in it
}

func (p *Participant) sendDone(_ context.Context, subject string, body []byte) (uint64, error) {
	defer crash.Here("participant.done.sent")
	return 0, p.nc.Publish(subject, body)
}

// prepared hears what the handler said to prepares.
func (p *Participant) prepared(branches []*Branch, results []Result) {
	crash.Here("participant.prepare.handled")
	p.do(func(b *protocol.Branches, now int64) {
		for i, branch := range branches {
			if vote, reason := p.judge(branch, &results[i]); errors.Is(results[i].Err, ErrConflict) {
				b.Conflict(branch.Tx, reason)
			} else {
				b.Prepared(branch.Tx, vote, reason, now)
			}
		}
	})
}

// judge makes a vote of a handler's result; zero when the handler is to be asked again.
func (p *Participant) judge(b *Branch, r *Result) (vote messages.Vote, reason string) {
	switch {
	case r.Err == nil && r.Vote == ReadOnly && b.Isolated():
		reason = "the handler answered ReadOnly, although the branch is isolated: its keys have to be held until the outcome, so it has " +
			"to be made durable and answered Yes"
		p.log.WithField("tx", b.Tx).Error(reason)
		return messages.VoteNo, reason
	case r.Err == nil && (r.Vote == Yes || r.Vote == ReadOnly):
		return r.Vote, ""
	case r.Err == nil:
		reason = fmt.Sprintf("the handler voted %v without an error: want Yes or ReadOnly", r.Vote)
		p.log.WithField("tx", b.Tx).Error(reason)
		return 0, reason
	case errors.Is(r.Err, ErrRefused), errors.Is(r.Err, ErrConflict):
		return messages.VoteNo, r.Err.Error()
	default:
		panics.Log(p.log, r.Err).WithField("tx", b.Tx).Warn("prepare failed; it is tried again until the transaction expires")
		return 0, "not prepared in time: " + r.Err.Error() // what the no says, if it comes to that: it is no refusal
	}
}

// finished hears what the handler said to outcomes.
func (p *Participant) finished(outcomes []Outcome, errs []error) {
	crash.Here("participant.outcome.applied")
	p.do(func(b *protocol.Branches, now int64) {
		for i, o := range outcomes {
			heuristic := ""
			if err := errs[i]; errors.Is(err, ErrHeuristic) {
				heuristic = err.Error()
				p.log.WithField("tx", o.Tx).WithField("reason", heuristic).Error("heuristic: the resource decided against the outcome")
			} else if err != nil {
				panics.Log(p.log, err).WithField("tx", o.Tx).Warn("the outcome could not be applied; it is tried again")
			}
			b.Applied(o.Tx, errs[i] == nil || heuristic != "", heuristic, now)
		}
	})
	for range outcomes {
		p.dones.Release() // perform held them
	}
}
