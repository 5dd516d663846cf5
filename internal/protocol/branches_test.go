// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"testing"

	"github.com/assent-tx/assent/messages"
	"pgregory.net/rapid"
)

// shell is what owns a Branches in the property: it does the steps in any order, as late as it likes, and remembers what it
// was promised.
type shell struct {
	t   *rapid.T
	b   *Branches
	now int64
	// sequence is that of the log's last message.
	sequence uint64
	next     int // token
	// owed and acked are the deliveries that are not acknowledged yet, and those that are, by token.
	owed, acked map[int]messages.ID
	calls       map[messages.ID]*shellCall
	votes       map[messages.ID]messages.Vote
	effects     map[messages.ID]map[messages.Outcome]uint64 // the newest effect that has had no done
	seen        map[messages.ID]uint64                      // the newest yes that this instance has any word of
	expires     map[messages.ID]int64
	decided     map[messages.ID]bool
	voted       map[messages.ID]bool // the log has a vote
	// waiting are those that wait for their keys.
	waiting map[messages.ID]bool
	// claimed are the branches that were asked for, and not left since; holds are those of which the handler may hold something.
	claimed, holds map[messages.ID]bool
}

type shellCall struct {
	kind    StepKind
	outcome messages.Outcome
	covers  uint64
}

func newShell(t *rapid.T) *shell {
	return &shell{
		t: t, b: NewBranches(BranchesConfig{Retry: 10, MaxRetry: 100, Doubt: 50, MaxDoubt: 400, Working: 20, Leaves: true}), now: 1000,
		owed: map[int]messages.ID{}, acked: map[int]messages.ID{}, calls: map[messages.ID]*shellCall{},
		votes: map[messages.ID]messages.Vote{}, effects: map[messages.ID]map[messages.Outcome]uint64{},
		seen: map[messages.ID]uint64{}, expires: map[messages.ID]int64{}, decided: map[messages.ID]bool{}, voted: map[messages.ID]bool{},
		claimed: map[messages.ID]bool{}, holds: map[messages.ID]bool{}, waiting: map[messages.ID]bool{},
	}
}

// take does what can be done at once, and holds it against the promises.
func (s *shell) take() {
	for _, step := range s.b.Take() {
		switch step.Kind {
		case AskPrepare, AskFinish:
			if s.calls[step.Tx] != nil {
				s.t.Fatalf("two calls for %s at once", step.Tx)
			}
			if step.Kind == AskPrepare && (s.now > step.Expires || s.owed[number(step.Token)] != step.Tx) {
				s.t.Fatalf("asked to prepare %s at %d, which expires at %d, as %v", step.Tx, s.now, step.Expires, step.Token)
			}
			s.calls[step.Tx] = &shellCall{step.Kind, step.Outcome, s.seen[step.Tx]}
			s.decided[step.Tx] = s.decided[step.Tx] || step.Kind == AskFinish
			delete(s.waiting, step.Tx)
			s.claimed[step.Tx] = s.claimed[step.Tx] || step.Kind == AskPrepare
		case LeaveBranch:
			if s.calls[step.Tx] != nil || s.holds[step.Tx] {
				s.t.Fatalf("%s is left while the handler is called for it (%v) or holds it (%v)", step.Tx, s.calls[step.Tx], s.holds[step.Tx])
			}
			delete(s.claimed, step.Tx)
		case CastVote:
			delete(s.waiting, step.Tx)
			if step.Conflict && step.Vote != messages.VoteNo {
				s.t.Fatalf("a conflict with %+v", step)
			}
			if step.WrongOwner != 0 && (step.Vote != messages.VoteNo || !step.Held) {
				s.t.Fatalf("wrong owner with %+v", step)
			}
			if _, under := s.votes[step.Tx]; under || s.calls[step.Tx] != nil {
				s.t.Fatalf("a vote for %s beside another, or while the handler runs", step.Tx)
			}
			s.votes[step.Tx] = step.Vote
		case AckPrepare:
			token := number(step.Token)
			if s.owed[token] != step.Tx {
				s.t.Fatalf("token %d acknowledged for %s; owed %v", token, step.Tx, s.owed)
			}
			if _, under := s.votes[step.Tx]; under && !s.decided[step.Tx] && !s.voted[step.Tx] {
				s.t.Fatalf("token %d acknowledged before the vote on %s is stored", token, step.Tx)
			}
			delete(s.owed, token)
			s.acked[token] = step.Tx
		case SendDone:
			s.done(step.Done)
		}
	}
}

// number is the token that a delivery had.
func number(token any) int {
	n, ok := token.(int)
	if !ok {
		panic(fmt.Sprintf("token %v", token))
	}
	return n
}

// done: it covers nothing that this instance cannot know of.
func (s *shell) done(done messages.Done) {
	if done.Working {
		return
	}
	if limit := s.seen[done.Tx]; done.Vote > limit {
		s.t.Fatalf("done of %s covers %d; this instance knows of %d", done.Tx, done.Vote, limit)
	}
	for outcome, vote := range s.effects[done.Tx] {
		if vote <= done.Vote {
			delete(s.effects[done.Tx], outcome)
		}
	}
}

func (s *shell) tx(label string) messages.ID {
	return messages.ID{6: 0x70, 8: 0x80, 15: byte(rapid.IntRange(1, 3).Draw(s.t, label))}
}

func (s *shell) prepare() {
	tx := s.tx("prepare")
	if s.expires[tx] == 0 {
		s.expires[tx] = s.now + int64(rapid.IntRange(-1, 300).Draw(s.t, "lives"))
	}
	s.next++
	s.owed[s.next] = tx
	s.b.Prepare(tx, 0, s.expires[tx], s.now, s.next)
}

// answer ends the handler's call of a transaction.
func (s *shell) answer(tx messages.ID, c *shellCall, fails bool) {
	delete(s.calls, tx)
	if c.kind == AskPrepare && rapid.IntRange(0, 3).Draw(s.t, "keys") == 0 {
		s.holds[tx] = s.holds[tx] && fails // it may be tried again, after a failure that left something
		if fails {
			s.waiting[tx] = true
			s.b.Wait(tx, "a key is held")
		} else {
			s.b.Conflict(tx, "lock timeout")
		}
		return
	}
	switch {
	case c.kind == AskFinish:
		s.holds[tx] = s.holds[tx] && fails
		s.b.Applied(tx, !fails, "", s.now)
	case fails && rapid.Bool().Draw(s.t, "wrong owner"):
		s.b.WrongOwner(tx, 7, "wrong owner")
	case fails:
		s.holds[tx] = true // perhaps: it may have failed after it was durable
		s.b.Prepared(tx, 0, "failed", s.now)
	default:
		vote := messages.Vote(rapid.IntRange(1, 3).Draw(s.t, "vote"))
		s.holds[tx] = vote == messages.VoteYes
		s.b.Prepared(tx, vote, "", s.now)
	}
}

func (s *shell) stored(tx messages.ID) {
	if _, under := s.votes[tx]; !under {
		return
	}
	s.sequence++
	known := rapid.Bool().Draw(s.t, "sequence is known")
	delete(s.votes, tx)
	s.voted[tx] = true
	if !known {
		s.b.Voted(tx, 0, s.now)
		return
	}
	s.seen[tx] = max(s.seen[tx], s.sequence)
	s.b.Voted(tx, s.sequence, s.now)
}

// heard: another instance has applied the outcome of a branch, in the store that they share.
func (s *shell) heard(tx messages.ID, covers uint64) {
	before, _ := s.b.Len()
	s.b.Heard(tx, covers)
	if after, _ := s.b.Len(); after < before {
		s.holds[tx] = false
	}
}

func (s *shell) effect(tx messages.ID) {
	outcome := messages.Outcome(1 + tx[15]%2)
	if rapid.IntRange(0, 9).Draw(s.t, "presumed") == 0 {
		outcome = messages.Aborted
	}
	vote := uint64(rapid.IntRange(0, int(s.sequence)).Draw(s.t, "answers"))
	s.seen[tx] = max(s.seen[tx], vote)
	if s.effects[tx] == nil {
		s.effects[tx] = map[messages.Outcome]uint64{}
	}
	s.effects[tx][outcome] = max(s.effects[tx][outcome], vote)
	s.b.Outcome(outcome, &messages.Effect{Tx: tx, Vote: vote}, 0, "leader", s.now)
}

// TestBranchesProperty: whatever comes, in whatever order, the handler's calls for one transaction never overlap, votes go one
// at a time, nothing is acknowledged early or twice, no done promises too much; and once all is quiet every effect that is sent
// again has had its done, every delivery that was kept is acknowledged, only what is in doubt (or asks for its rollback) is still in
// hand, nobody waits, and no wounded one's last word is yes. No branch is left while the handler may hold something of it; all of
// them are, once their outcomes have come.
func TestBranchesProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newShell(t)
		t.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { s.take() },
			"prepare": func(*rapid.T) { s.prepare() },
			"effect":  func(*rapid.T) { s.effect(s.tx("effect")) },
			"stored":  func(*rapid.T) { s.stored(s.tx("stored")) },
			"recall": func(*rapid.T) {
				tx := s.tx("recall")
				if _, under := s.votes[tx]; !under {
					s.b.Recall(tx, 0)
				}
			},
			"heard": func(t *rapid.T) {
				s.heard(s.tx("heard"), uint64(rapid.IntRange(0, int(s.sequence)).Draw(t, "covers")))
			},
			"answer": func(t *rapid.T) {
				if tx := s.tx("answer"); s.calls[tx] != nil {
					s.answer(tx, s.calls[tx], rapid.Bool().Draw(t, "fails"))
				}
			},
			"granted": func(*rapid.T) {
				tx := s.tx("granted")
				delete(s.waiting, tx)
				if known := s.b.Granted(tx, s.now); known != (s.b.branches[tx] != nil) {
					t.Fatalf("%s is known: %v", tx, known)
				}
				for _, step := range s.b.steps { // keys become free when a vote is stored
					if step.Kind == CastVote {
						t.Fatalf("%s votes in the middle of the telling of another vote", tx)
					}
				}
			},
			"guard": func(*rapid.T) { s.b.Guard(s.tx("guard")) },
			"wound": func(*rapid.T) {
				tx := s.tx("wound")
				s.b.Wound(tx, "an older one waits")
				if br := s.b.branches[tx]; br != nil && br.waiting {
					t.Fatalf("%s waits on, and is not wanted", tx)
				}
			},
			"time": func(t *rapid.T) {
				s.now += int64(rapid.IntRange(0, 60).Draw(t, "time"))
				s.b.Tick(s.now)
				s.b.Working(s.now)
			},
		})
		s.quiet()
	})
}

// quiet lets everything end, and then asks what was promised.
func (s *shell) quiet() {
	for range 20 {
		s.now += 500
		s.b.Tick(s.now)
		s.take()
		for n := range 3 {
			tx := messages.ID{6: 0x70, 8: 0x80, 15: byte(n + 1)}
			if c := s.calls[tx]; c != nil {
				s.answer(tx, c, false)
				s.take()
			}
			s.stored(tx)
			for outcome, vote := range s.effects[tx] {
				s.b.Outcome(outcome, &messages.Effect{Tx: tx, Vote: vote}, 0, "leader", s.now)
				s.take()
			}
			s.take()
		}
	}
	for tx, br := range s.b.branches {
		if inDoubt := br.stored && br.outcome == messages.Undecided; !inDoubt || (br.vote != messages.VoteYes && (!br.held || !br.guarded)) {
			s.t.Fatalf("%s is in hand, and not in doubt: %+v", tx, br)
		}
		if br.wounded && br.vote == messages.VoteYes {
			s.t.Fatalf("%s was wounded, and its vote stays yes", tx)
		}
	}
	for tx, effects := range s.effects {
		if len(effects) > 0 {
			s.t.Fatalf("no done for %s: %v", tx, effects)
		}
	}
	s.redeliver()
	s.leave()
}

// leave lets everything be rolled back: no branch stays claimed.
func (s *shell) leave() {
	for n := range 3 {
		tx := messages.ID{6: 0x70, 8: 0x80, 15: byte(n + 1)}
		for _, outcome := range []messages.Outcome{messages.Aborted, messages.Committed} {
			s.sequence++
			s.seen[tx] = s.sequence
			s.b.Outcome(outcome, &messages.Effect{Tx: tx, Vote: s.sequence}, 0, "leader", s.now)
			s.take()
			for c := s.calls[tx]; c != nil; c = s.calls[tx] {
				s.answer(tx, c, false)
				s.take()
			}
		}
		if s.claimed[tx] {
			s.t.Fatalf("%s is never left", tx)
		}
	}
}

// redeliver brings what was not acknowledged once more: now there is room for it.
func (s *shell) redeliver() {
	for token, tx := range s.owed {
		s.b.Prepare(tx, 0, s.expires[tx], s.now, token)
		s.take()
		for c := s.calls[tx]; c != nil; c = s.calls[tx] {
			s.answer(tx, c, false)
			s.take()
		}
		s.stored(tx)
		s.take()
		if _, owed := s.owed[token]; owed {
			s.t.Fatalf("token %d of %s is never acknowledged", token, tx)
		}
	}
}

// TestBranchesTokensBounded: a prepare may be delivered for a day before its handler answers.
func TestBranchesTokensBounded(t *testing.T) {
	b := NewBranches(BranchesConfig{})
	tx := messages.ID{6: 0x70, 8: 0x80, 15: 1}
	for i := range 10_000 {
		b.Prepare(tx, 0, 1<<40, 0, i)
		b.Outcome(messages.Aborted, &messages.Effect{Tx: tx, Vote: uint64(i)}, 0, fmt.Sprint("leader ", i), 0)
	}
	if n := len(b.branches[tx].tokens); n != maxTokens {
		t.Errorf("%d deliveries are kept", n)
	}
	if n := len(b.Take()); n != 1 {
		t.Errorf("%d steps", n)
	}
}

// TestBranchesSettledBounded: what an instance remembers of what is over is bounded; the oldest goes first, and meets the
// handler again.
func TestBranchesSettledBounded(t *testing.T) {
	b := NewBranches(BranchesConfig{})
	id := func(n int) messages.ID {
		return messages.ID{6: 0x70, 8: 0x80, 13: byte(n >> 16), 14: byte(n >> 8), 15: byte(n)}
	}
	finish := func(n int) (called bool) {
		b.Outcome(messages.Committed, &messages.Effect{Tx: id(n)}, 0, "leader", 0)
		if steps := b.Take(); steps[0].Kind != AskFinish {
			return false
		}
		b.Applied(id(n), true, "", 0)
		b.Take()
		return true
	}
	for n := range maxSettled + 10 {
		finish(n)
	}
	if n := len(b.settled.known); n != maxSettled || len(b.settled.order) != maxSettled {
		t.Errorf("%d and %d are remembered", n, len(b.settled.order))
	}
	if finish(maxSettled+9) || finish(10) || !finish(9) {
		t.Error("the oldest are to be forgotten, and only they")
	}
}

// TestBranchesSpent: steps that were carried out make room for others, unless there is room already or they were very many.
func TestBranchesSpent(t *testing.T) {
	b := NewBranches(BranchesConfig{})
	recall := func(n byte) { b.Recall(messages.ID{6: 0x70, 8: 0x80, 15: n}, 0) }
	recall(1)
	first := b.Take()
	b.Spent(first)
	recall(2)
	if again := b.Take(); len(again) != 1 || again[0].Tx[15] != 2 || &again[0] != &first[0] {
		t.Errorf("%v is not made where the first was", again)
	}
	recall(3)
	b.Spent(first)
	if taken := b.Take(); len(taken) != 1 || taken[0].Tx[15] != 3 {
		t.Errorf("%v: steps that wait were lost", taken)
	}
	b.Spent(make([]Step, maxSpent+1))
	if b.steps != nil {
		t.Error("a very large slice is kept")
	}
}
