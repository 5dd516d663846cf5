// SPDX-License-Identifier: Apache-2.0

package protocol

import "github.com/assent-tx/assent/messages"

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
	// LeaveBranch: nothing of the transaction is held here any more, by the handler or on its behalf: it refused, changed
	// nothing, or has applied the outcome. A no that is held is no end, since its rollback is still to come. It may come for
	// a branch that was never asked for, and again. A prepare that comes later begins another life of the branch, so who
	// keeps something by the branch has to give it up before the next event is given to Branches. It is emitted for guarded
	// branches (Branches.Guard), and for all with BranchesConfig.Leaves.
	LeaveBranch
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
	// WrongOwner goes with a vote of no: the epoch in which this node did not own a key of the branch; else 0.
	WrongOwner uint64
	// Conflict goes with a vote of no: another transaction was in the way.
	Conflict bool
	Reply    string
	Done     messages.Done
	Token    any
	Expires  int64
}
