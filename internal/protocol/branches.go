// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

// Branches is the participant's side of the protocol: the branches that one instance of a participant has in hand.
// Times are a wall clock's Unix milliseconds. It has one owner, like Fold.
//
// A branch, with the handler's calls in capitals; never two of them run at once for one transaction:
//
//	prepare ──▶ PREPARE ──yes──▶ vote stored ──▶ in doubt ──▶ COMMIT or ROLLBACK ──▶ done
//	   │           ├──no, read-only──▶ vote stored ──▶ gone        ▲
//	   │           └──error, until it expires─┐                    │ an outcome for a branch that is not here
//	   └──expired already─────────────────────┴─▶ no, held ──▶ gone │ (another instance prepared it) goes straight there
//
// The participant never rolls back by its own decision: another instance may have prepared the branch and voted yes. "No,
// held" aborts the transaction if it is still undecided, and asks for the rollback that clears what may have been left.
type Branches struct {
	cfg      BranchesConfig
	branches map[messages.ID]*branch
	// settled remembers outcomes that were applied here, so that a prepare which they overtook is not prepared any more.
	settled settledSet
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
}

// StepKind is what a Step asks of the owner of Branches.
type StepKind uint8

// The steps.
const (
	// AskPrepare: call the handler's Prepare, and tell Prepared what it said.
	AskPrepare StepKind = iota + 1
	// AskFinish: call the handler's Commit or Rollback, by Outcome, and tell Applied what it said.
	AskFinish
	// CastVote: append Vote (with Reason) to the log of Shard, and tell Voted when the log has it.
	CastVote
	// AckPrepare: the prepare delivered with Token needs no redelivery any more.
	AckPrepare
	// SendDone: answer Done to Reply.
	SendDone
)

// Step is what Branches wants done. It performs nothing itself.
type Step struct {
	Kind    StepKind
	Tx      messages.ID
	Shard   int
	Vote    messages.Vote
	Outcome messages.Outcome
	Reason  string
	Held    bool
	Reply   string
	Done    messages.Done
	Token   any
	Expires int64
}

type branch struct {
	shard   int
	expires int64
	// tokens are the deliveries of the prepare that wait for the vote; empty when none came here.
	tokens []any
	// calling: a handler call for this transaction runs. Invariant: at most one does.
	calling bool
	// voting: a vote is on its way to the log.
	voting bool
	// again: the vote is to be cast once more when the one on its way is stored.
	again  bool
	vote   messages.Vote
	reason string
	// held: the no is not a refusal, so something may be held here.
	held bool
	// patience is when Prepare is given up, early enough before the expiry for the no to arrive in time.
	patience int64
	attempts int
	// outcome, once it is known here, and those who wait to hear that it is applied.
	outcome  messages.Outcome
	since    int64
	replies  []reply
	wakeAt   int64
	unasked  bool // Prepare is to be asked (again) at wakeAt
	recalled bool // in doubt since before this instance started
}

// reply is an effect that waits for its done.
type reply struct {
	subject string
	vote    uint64
}

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

// Prepare takes a delivered prepare. Token comes back in an AckPrepare when the delivery needs no repetition.
func (b *Branches) Prepare(tx messages.ID, shard int, expires, now int64, token any) {
	if b.settled.has(tx) {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
		return
	}
	br := b.branches[tx]
	if br == nil {
		br = &branch{shard: shard, expires: expires}
		b.branches[tx] = br
		br.tokens = append(br.tokens, token)
		if now > expires {
			b.abandon(tx, br, "the prepare came after its expiry")
			return
		}
		br.patience = expires - min(maxMargin, (expires-now)/10)
		br.calling = true
		b.emit(Step{Kind: AskPrepare, Tx: tx, Shard: shard, Token: token, Expires: expires})
		return
	}
	if br.outcome != messages.Undecided || (br.recalled && br.vote == messages.VoteYes && !br.voting) {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
		return
	}
	br.tokens = append(br.tokens, token)
	if br.vote == messages.VoteYes {
		b.cast(tx, br)
	}
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
	br := b.branches[tx]
	if br == nil || !br.calling {
		panic("protocol: an answer to no question, for the prepare of " + tx.String())
	}
	br.calling = false
	switch {
	case br.outcome != messages.Undecided:
		b.apply(tx, br)
	case vote != 0:
		br.vote, br.reason, br.attempts = vote, messages.CutReason(reason), 0
		b.cast(tx, br)
	case now >= br.patience:
		b.abandon(tx, br, reason)
	default:
		br.reason, br.unasked = reason, true
		b.wake(tx, br, min(now+b.pause(br), br.patience))
	}
}

// cast brings the branch's vote to the log: one at a time.
func (b *Branches) cast(tx messages.ID, br *branch) {
	if br.voting {
		br.again = true
		return
	}
	br.voting = true
	b.emit(Step{Kind: CastVote, Tx: tx, Shard: br.shard, Vote: br.vote, Reason: br.reason, Held: br.held})
}

// Voted says that the log has the vote which was cast last.
func (b *Branches) Voted(tx messages.ID, now int64) {
	br := b.branches[tx]
	if br == nil {
		return
	}
	br.voting = false
	for _, token := range br.tokens {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
	}
	br.tokens = br.tokens[:0]
	switch {
	case br.outcome != messages.Undecided || br.calling:
	case br.vote != messages.VoteYes:
		delete(b.branches, tx)
	case br.again:
		br.again = false
		b.cast(tx, br)
	default:
		b.wake(tx, br, now+min(b.cfg.Doubt<<min(br.attempts, 16), b.cfg.MaxDoubt))
		br.attempts++
	}
}

// Recall says that the participant's store holds a prepared branch from before this instance started: its vote is
// repeated at once, which asks for its outcome.
func (b *Branches) Recall(tx messages.ID, shard int, now int64) {
	if b.branches[tx] != nil || b.settled.has(tx) {
		return
	}
	br := &branch{shard: shard, vote: messages.VoteYes, recalled: true}
	b.branches[tx] = br
	b.cast(tx, br)
}

// Outcome takes a commit or rollback. Reply is where its done goes.
func (b *Branches) Outcome(outcome messages.Outcome, e *messages.Effect, shard int, replyTo string, now int64) {
	br := b.branches[e.Tx]
	if br == nil {
		br = &branch{shard: shard}
		b.branches[e.Tx] = br
	}
	br.replyTo(replyTo, e.Vote)
	br.expires = max(br.expires, e.Expires)
	if br.outcome == messages.Undecided {
		br.outcome, br.since, br.attempts = outcome, now, 0
	}
	if !br.calling && br.wakeAtFinish() {
		b.apply(e.Tx, br)
	}
}

// wakeAtFinish tells whether no retry of the outcome's handler is waiting for its time.
func (br *branch) wakeAtFinish() bool { return br.attempts == 0 }

// replyTo notes who is to hear of the done; of several effects from one leader the newest counts.
func (br *branch) replyTo(subject string, vote uint64) {
	for i := range br.replies {
		if br.replies[i].subject == subject {
			br.replies[i].vote = max(br.replies[i].vote, vote)
			return
		}
	}
	if len(br.replies) < maxReplies {
		br.replies = append(br.replies, reply{subject, vote})
	}
}

// maxReplies bounds the leaders that wait for one done; a further one sends its effect again.
const maxReplies = 8

func (b *Branches) apply(tx messages.ID, br *branch) {
	br.calling = true
	b.emit(Step{Kind: AskFinish, Tx: tx, Shard: br.shard, Outcome: br.outcome})
}

// Applied takes the handler's answer to Commit or Rollback: applied, applied but against the outcome (heuristic), or a
// failure, after which it is asked again until it succeeds.
func (b *Branches) Applied(tx messages.ID, applied bool, heuristic string, now int64) {
	br := b.branches[tx]
	if br == nil || !br.calling {
		panic("protocol: an answer to no question, for the outcome of " + tx.String())
	}
	br.calling = false
	if applied {
		b.done(tx, br, heuristic)
		return
	}
	b.wake(tx, br, now+b.pause(br))
}

func (b *Branches) done(tx messages.ID, br *branch, heuristic string) {
	for _, r := range br.replies {
		b.emit(Step{Kind: SendDone, Tx: tx, Shard: br.shard, Reply: r.subject, Done: messages.Done{
			Tx: tx, Vote: r.vote, Heuristic: messages.CutReason(heuristic),
		}})
	}
	for _, token := range br.tokens {
		b.emit(Step{Kind: AckPrepare, Tx: tx, Token: token})
	}
	b.settled.add(tx)
	delete(b.branches, tx)
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

// Tick does what has become due: handlers that failed are asked again, votes of branches in doubt are repeated, and
// leaders hear that an outcome is still being applied.
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
		case br.unasked && now >= br.patience:
			b.abandon(due.id, br, br.reason)
		case br.unasked:
			br.unasked, br.calling = false, true
			b.emit(Step{Kind: AskPrepare, Tx: due.id, Shard: br.shard, Token: br.tokens[0], Expires: br.expires})
		case br.vote == messages.VoteYes:
			b.cast(due.id, br)
		}
	}
}

// Working emits a SendDone that says so for every outcome which the handler has been applying for long.
func (b *Branches) Working(now int64) {
	for tx, br := range b.branches {
		if br.outcome == messages.Undecided || now-br.since < b.cfg.Working {
			continue
		}
		for _, r := range br.replies {
			b.emit(Step{Kind: SendDone, Tx: tx, Shard: br.shard, Reply: r.subject, Done: messages.Done{
				Tx: tx, Vote: r.vote, Working: true,
			}})
		}
	}
}

// Take gives the steps since the last Take, in order. The slice is the caller's.
func (b *Branches) Take() []Step {
	taken := b.steps
	b.steps = nil
	return taken
}

// Len counts the branches in hand, and those of them that are in doubt.
func (b *Branches) Len() (inHand, inDoubt int) {
	for _, br := range b.branches {
		if br.outcome == messages.Undecided && br.vote == messages.VoteYes && !br.voting {
			inDoubt++
		}
	}
	return len(b.branches), inDoubt
}

// Calling counts the handler calls that run, and the votes that are on their way: what a drain waits for.
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
