// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// Branches is the participant's side of the protocol: the branches that one instance of a participant has in hand.
// Times are a wall clock's Unix milliseconds. It has one owner, like Fold.
//
// A branch, with the handler's calls in capitals; never two of them run at once for one transaction:
//
//	prepare ──▶ PREPARE ──yes──▶ vote stored ──▶ in doubt ──▶ COMMIT or ROLLBACK ──▶ done
//	   │  ▲        ├──no, read-only──▶ vote stored ──▶ gone        ▲
//	   │  keys     └──error, until it expires─┐                    │ an outcome for a branch that is not here
//	   └──expired already, waits too long─────┴─▶ no, held ──▶ gone │ (another instance prepared it) goes straight there
//
// The participant never rolls back by its own decision: another instance may have prepared the branch and voted yes. "No,
// held" aborts the transaction if it is still undecided, and asks for the rollback that clears what may have been left.
//
// Several instances share one store and know nothing of each other, so a done must not promise too much: it covers
// the effects that came before the handler's call began, and no yes that is newer.
//
// A participant that is a node of a group claims the partitions of a branch before its handler is asked, and answers
// WrongOwner in the handler's place when it does not own them. BranchesConfig.Leaves tells when the claim is of no more use.
//
// A branch whose keys are locked waits for them before its handler is asked (branches_keys.go), and may be wounded: then it
// votes no, held, for an older one that waits for its keys, also after its yes. The log says whether that no came in time.
type Branches struct {
	cfg      BranchesConfig
	branches map[messages.ID]*branch
	settled  settledSet
	// timers are when a branch has something to do again.
	timers expiryHeap
	steps  []Step
}

// BranchesConfig sets the pace of Branches; zero fields mean the defaults. All are milliseconds.
type BranchesConfig struct {
	// Retry is the time before a handler that failed is called again; it doubles up to MaxRetry. Defaults 100, 10000.
	Retry, MaxRetry int64
	// Doubt is how long a branch is in doubt before its vote is repeated, which asks for the outcome; it doubles up to
	// MaxDoubt. Defaults 5000, 60000.
	Doubt, MaxDoubt int64
	// Working is the time after which a participant that still applies an outcome tells the leader so. Default 500.
	Working int64
	// Leaves has a LeaveBranch emitted for each branch that is over.
	Leaves bool
}

type branch struct {
	shard   int
	expires int64
	// patience is when Prepare is given up, early enough before the expiry for the no to arrive in time.
	patience int64
	// tokens are the deliveries of the prepare that wait for the vote, at most maxTokens; empty when none came here.
	tokens []any
	// calling: a handler call for this transaction runs. Invariant: at most one does.
	calling bool
	// unasked: Prepare has failed and is to be asked again.
	unasked bool
	vote    messages.Vote
	reason  string
	// held: the no is not a refusal, so something may be held here.
	held bool
	// wrongOwner goes with the no. Invariant: only a no that is held has it.
	wrongOwner uint64
	// conflict goes with the no: another transaction was in the way.
	conflict bool
	// guarded: something is kept by the branch, which a LeaveBranch is to end.
	guarded bool
	// waiting: its keys are not free. Invariant: then no call runs, there is no vote and no outcome.
	waiting bool
	// wounded: its yes is to become a no, or to be followed by one, for the reason wound.
	wounded bool
	wound   string
	// voting: a vote is on its way to the log. Invariant: at most one is.
	voting bool
	// stored: the log has the vote, votedAt is its newest sequence.
	stored  bool
	votedAt uint64
	doubts  int
	// outcome, once it is known here: since is when it came, reply where its done goes.
	outcome messages.Outcome
	since   int64
	reply   string
	// newest is the newest yes that an effect answered; covers is the newest that the handler's call covers.
	newest, covers uint64
	// again: something came while the call ran that it may have been too early for.
	again     bool
	heuristic string
	attempts  int
	wakeAt    int64
}

// maxTokens bounds the deliveries that are kept for one branch: JetStream delivers a further one once more, if the vote does
// not settle it with the others.
const maxTokens = 8

// NewBranches gives the state of an instance that has nothing in hand.
func NewBranches(cfg BranchesConfig) *Branches {
	defaults := func(v *int64, d int64) {
		if *v <= 0 {
			*v = d
		}
	}
	defaults(&cfg.Retry, 100)
	defaults(&cfg.MaxRetry, 10_000)
	defaults(&cfg.Doubt, 5_000)
	defaults(&cfg.MaxDoubt, 60_000)
	defaults(&cfg.Working, 500)
	return &Branches{cfg: cfg, branches: make(map[messages.ID]*branch), settled: newSettledSet()}
}

// Prepare takes a delivered prepare. Token comes back in an AckPrepare when the delivery needs no repetition; beyond
// maxTokens of them for one branch it does not come back, and the delivery is repeated.
func (b *Branches) Prepare(tx messages.ID, shard int, expires, now int64, token any) {
	br := b.branches[tx]
	if br == nil {
		b.begin(tx, shard, expires, now, token)
		return
	}
	if br.outcome == messages.Undecided && br.stored {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
		return
	}
	if len(br.tokens) < maxTokens {
		br.tokens = append(br.tokens, token)
	}
	br.again = br.again || (br.calling && br.outcome == messages.Aborted)
}

func (b *Branches) begin(tx messages.ID, shard int, expires, now int64, token any) {
	past, settled := b.settled.find(tx)
	if settled && past.outcome != messages.Aborted {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
		return
	}
	br := &branch{shard: shard, expires: expires, tokens: []any{token}}
	b.branches[tx] = br
	switch {
	case settled: // another instance may have died between preparing it after the rollback, and voting
		br.outcome, br.since = messages.Aborted, now
		b.apply(tx, br)
	case now > expires:
		b.abandon(tx, br, "the prepare came after its expiry")
	default:
		br.patience = expires - min(maxMargin, (expires-now)/10)
		b.ask(tx, br)
	}
}

func (b *Branches) ask(tx messages.ID, br *branch) {
	br.unasked, br.waiting, br.calling = false, false, true
	b.emit(Step{Kind: AskPrepare, Tx: tx, Shard: br.shard, Token: br.tokens[0], Expires: br.expires})
}

// maxMargin is how long before a transaction's expiry, at the most, a failing Prepare is given up, in milliseconds.
const maxMargin = 1000

// abandon votes no without the handler's word; something may be held here.
func (b *Branches) abandon(tx messages.ID, br *branch, reason string) {
	br.vote, br.held, br.reason, br.unasked = messages.VoteNo, true, messages.CutReason(reason), false
	b.cast(tx, br)
}

// Prepared takes the handler's answer to Prepare: a vote (no with a reason), or zero and the failure's text, after which
// it is asked again until the transaction expires.
func (b *Branches) Prepared(tx messages.ID, vote messages.Vote, reason string, now int64) {
	br := b.answered(tx)
	switch {
	case br.outcome != messages.Undecided:
		b.apply(tx, br)
	case br.wounded && (vote == 0 || vote == messages.VoteYes):
		b.yield(tx, br)
	case vote != 0:
		br.vote, br.reason = vote, messages.CutReason(reason)
		b.cast(tx, br)
	case now >= br.patience:
		b.abandon(tx, br, reason)
	default:
		br.reason, br.unasked = reason, true
		b.wake(tx, br, min(now+b.pause(br), br.patience))
	}
}

// WrongOwner takes, in place of the handler's answer to Prepare, that this node does not own a key of the branch in the ring of
// an epoch, which is not 0. That is a no at once; it is held, since a node that was there before under this name may have
// prepared the branch.
func (b *Branches) WrongOwner(tx messages.ID, epoch uint64, reason string) {
	br := b.answered(tx)
	if br.outcome != messages.Undecided {
		b.apply(tx, br)
		return
	}
	br.wrongOwner = epoch
	b.abandon(tx, br, reason)
}

// answered ends a handler's call.
func (b *Branches) answered(tx messages.ID) *branch {
	br := b.branches[tx]
	if br == nil || !br.calling {
		panic("protocol: the handler answers what it was not asked, for " + tx.String())
	}
	br.calling = false
	return br
}

func (b *Branches) cast(tx messages.ID, br *branch) {
	br.voting = true
	b.emit(Step{Kind: CastVote, Tx: tx, Shard: br.shard, Vote: br.vote, Reason: br.reason, Held: br.held, WrongOwner: br.wrongOwner, Conflict: br.conflict})
}

// Voted says that the log has the vote which was cast last, at sequence (0 when that is not known). It may come after
// the branch is gone: an outcome does not wait for it.
func (b *Branches) Voted(tx messages.ID, sequence uint64, now int64) {
	br := b.branches[tx]
	if br == nil || !br.voting {
		return
	}
	br.voting, br.stored, br.votedAt = false, true, sequence
	b.ack(tx, br) // also when the outcome is here already: it may take long to apply, and is sent again without the prepare
	if br.outcome != messages.Undecided {
		return
	}
	switch {
	case br.vote == messages.VoteYes && br.wounded:
		b.wake(tx, br, now) // its no follows: by the next Tick, for who tells of stored votes must not have to store another
	case br.vote == messages.VoteYes, br.held && br.guarded:
		b.wake(tx, br, now+min(b.cfg.Doubt<<min(br.doubts, 16), b.cfg.MaxDoubt))
		br.doubts++
	default:
		delete(b.branches, tx)
		if !br.held {
			b.leave(tx, br)
		}
	}
}

func (b *Branches) ack(tx messages.ID, br *branch) {
	for _, token := range br.tokens {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
	}
	br.tokens = nil
}

// Recall says that the participant's store holds a prepared branch, perhaps from before this instance started: its vote
// is repeated at once, which asks for its outcome. No vote of the transaction may be on its way from this instance; at the start
// none is.
func (b *Branches) Recall(tx messages.ID, shard int) {
	if b.branches[tx] != nil {
		return
	}
	br := &branch{shard: shard, vote: messages.VoteYes}
	b.branches[tx] = br
	b.cast(tx, br)
}

// Heard says that another instance of the participant answered done, covering the yes at vote. A branch that is in
// doubt here on an older or the same yes is over; without this it would repeat its vote until chance sends it the outcome.
// Foreign tells that this instance cannot have answered so itself.
func (b *Branches) Heard(tx messages.ID, vote uint64) (foreign bool) {
	br := b.branches[tx]
	_, settled := b.settled.find(tx)
	foreign = !settled && (br == nil || br.outcome == messages.Undecided)
	if br == nil || br.outcome != messages.Undecided || !br.stored || br.votedAt == 0 || br.votedAt > vote {
		return foreign
	}
	b.ack(tx, br)
	b.settle(tx, br, settledBranch{})
	return foreign
}

// Outcome takes a commit or rollback. ReplyTo is where its done goes: of several effects for one branch, the newest's.
func (b *Branches) Outcome(outcome messages.Outcome, e *messages.Effect, shard int, replyTo string, now int64) {
	br := b.branches[e.Tx]
	if br == nil {
		if past, ok := b.settled.find(e.Tx); ok && past.outcome == outcome && e.Vote <= past.covers {
			b.sendDone(shard, replyTo, messages.Done{Tx: e.Tx, Vote: e.Vote, Heuristic: past.heuristic})
			return
		}
		br = &branch{shard: shard}
		b.branches[e.Tx] = br
	}
	if br.outcome != messages.Undecided && br.outcome != outcome {
		// One of the two was sent by a leader that has forgotten the transaction, and is a no-op for the handler. A done of
		// the one must not answer the other: that is sent again.
		return
	}
	first := br.outcome == messages.Undecided
	br.again = br.again || (!first && br.calling && e.Vote > br.covers)
	br.reply, br.newest = replyTo, max(br.newest, e.Vote)
	if first {
		br.outcome, br.since, br.attempts = outcome, now, 0
	}
	if first && !br.calling {
		b.apply(e.Tx, br)
	}
}

// apply calls the handler. The call covers every yes that was in the log when it began, as far as is known here: what an
// effect answered, and the one of this instance.
func (b *Branches) apply(tx messages.ID, br *branch) {
	br.calling, br.waiting, br.again, br.covers = true, false, false, max(br.newest, br.votedAt)
	b.emit(Step{Kind: AskFinish, Tx: tx, Shard: br.shard, Outcome: br.outcome})
}

// Applied takes the handler's answer to Commit or Rollback: applied, applied but against the outcome (heuristic), or a
// failure, after which it is asked again until it succeeds.
func (b *Branches) Applied(tx messages.ID, applied bool, heuristic string, now int64) {
	br := b.answered(tx)
	if applied && heuristic != "" {
		br.heuristic = messages.CutReason(heuristic)
	}
	switch {
	case !applied:
		b.wake(tx, br, now+b.pause(br))
	case br.again:
		b.apply(tx, br)
	default:
		b.sendDone(br.shard, br.reply, messages.Done{Tx: tx, Vote: br.covers, Heuristic: br.heuristic})
		b.ack(tx, br)
		b.settle(tx, br, settledBranch{br.outcome, br.covers, br.heuristic})
	}
}

func (b *Branches) settle(tx messages.ID, br *branch, s settledBranch) {
	b.settled.add(tx, s)
	delete(b.branches, tx)
	b.leave(tx, br)
}

func (b *Branches) leave(tx messages.ID, br *branch) {
	if b.cfg.Leaves || br.guarded {
		b.emit(Step{Kind: LeaveBranch, Tx: tx})
	}
}

// sendDone answers an effect; a rollback that none asked for has no reply.
func (b *Branches) sendDone(shard int, reply string, done messages.Done) {
	if reply != "" {
		b.emit(Step{Kind: SendDone, Tx: done.Tx, Shard: shard, Reply: reply, Done: done})
	}
}

// pause is the time before the next attempt, which it counts.
func (b *Branches) pause(br *branch) int64 {
	pause := min(b.cfg.Retry<<min(br.attempts, 16), b.cfg.MaxRetry)
	br.attempts++
	return pause
}

func (b *Branches) wake(tx messages.ID, br *branch, at int64) {
	br.wakeAt = at
	b.timers.push(expiry{at, tx})
}

// Tick does what has become due: handlers that failed are asked again, and votes of branches in doubt are repeated.
func (b *Branches) Tick(now int64) {
	for len(b.timers) > 0 && b.timers[0].at <= now {
		due := b.timers.pop()
		br := b.branches[due.id]
		if br == nil || br.wakeAt != due.at || br.calling {
			continue
		}
		switch {
		case br.outcome != messages.Undecided:
			b.apply(due.id, br)
		case br.waiting && now >= br.patience:
			b.waitedTooLong(due.id, br)
		case br.unasked && now >= br.patience:
			b.abandon(due.id, br, br.reason)
		case br.unasked:
			b.ask(due.id, br)
		case br.stored && !br.voting && br.wounded && br.vote == messages.VoteYes:
			b.yield(due.id, br)
		case br.stored && !br.voting:
			b.cast(due.id, br)
		}
	}
}

// Working emits a SendDone that says so for every outcome which the handler has been applying for long.
func (b *Branches) Working(now int64) {
	for tx, br := range b.branches {
		if br.outcome != messages.Undecided && now-br.since >= b.cfg.Working {
			b.sendDone(br.shard, br.reply, messages.Done{Tx: tx, Vote: br.newest, Working: true})
		}
	}
}

// Take gives the steps since the last Take, in order. The slice is the caller's, until it gives it back with Spent.
func (b *Branches) Take() []Step {
	taken := b.steps
	b.steps = nil
	return taken
}

// maxSpent bounds the steps of a slice that is used again.
const maxSpent = 4096

// Spent gives back a slice of Take's whose steps were carried out, to be used again.
func (b *Branches) Spent(steps []Step) {
	if b.steps == nil && cap(steps) <= maxSpent {
		clear(steps)
		b.steps = steps[:0]
	}
}

// Len counts the branches in hand, and those of them that are in doubt.
func (b *Branches) Len() (inHand, inDoubt int) {
	for _, br := range b.branches {
		if br.outcome == messages.Undecided && br.vote == messages.VoteYes && br.stored {
			inDoubt++
		}
	}
	return len(b.branches), inDoubt
}

// Calling counts the branches that a handler's call or a vote is under way for: what a drain waits for. The others may be left
// as they are: their prepare is delivered again, or their outcome is sent again.
func (b *Branches) Calling() int {
	calls := 0
	for _, br := range b.branches {
		if br.calling || br.voting {
			calls++
		}
	}
	return calls
}

func (b *Branches) emit(s Step) { b.steps = append(b.steps, s) }
