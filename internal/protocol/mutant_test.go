// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"testing"

	"github.com/assent-tx/assent/internal/mutant"
)

// mutants are bugs that someone might well write into the fold, each with the test that finds it.
var mutants = []struct {
	name, file string
	// line is in the file exactly once; mutant takes its place.
	line, mutant string
	// caught is the test that fails.
	caught string
}{
	{
		"a yes after expiry counts", "fold.go",
		"tx := f.open[f.expires.pop().id]", "tx := f.open[f.expires.pop().id]; if tx != nil && tx.yes != 0 { continue }",
		"TestFoldModelProperty",
	},
	{
		"a yes in the millisecond of the expiry is late", "fold.go",
		"for len(f.expires) > 0 && f.expires[0].at < f.logTime {", "for len(f.expires) > 0 && f.expires[0].at <= f.logTime {",
		"TestFoldTranscripts/expiry",
	},
	{
		"a prepare may come late", "fold.go",
		"case f.logTime > tx.expires:", "case false:",
		"TestFoldTranscripts/clock-back",
	},
	{
		"the last vote wins", "fold.go",
		"case tx.outcome != messages.Undecided:", "case tx.outcome != messages.Undecided && v.Vote == messages.VoteYes:",
		"TestFoldTranscripts/refusal",
	},
	{
		"an abort undoes a commit", "fold.go",
		"if tx := f.open[a.Tx]; tx != nil && tx.outcome == messages.Undecided {", "if tx := f.open[a.Tx]; tx != nil { tx.outcome = 0",
		"TestFoldTranscripts/abort",
	},
	{
		"unknown means committed", "fold.go",
		"Outcome: messages.Aborted, Vote: f.sequence, Presumed: true})", "Outcome: messages.Committed, Vote: f.sequence, Presumed: true})",
		"TestFoldTranscripts/presumed-abort",
	},
	{
		"a missing vote counts as yes", "fold.go",
		"if tx.yes|tx.readOnly == tx.all() {", "if tx.yes|tx.readOnly|^tx.prepared&tx.all() == tx.all() {",
		"TestFoldTranscripts/in-doubt",
	},
	{
		"read-only is not enough", "fold.go",
		"if tx.yes|tx.readOnly == tx.all() {", "if tx.yes == tx.all() {",
		"TestFoldTranscripts/read-only",
	},
	{
		"finished ignores through", "fold.go",
		"if sequence > fin.Through {", "if _ = sequence; false {",
		"TestFoldTranscripts/done-again",
	},
	{
		"finished decides", "fold.go",
		"if tx == nil || tx.outcome == messages.Undecided {", "if tx == nil {",
		"TestFoldModelProperty",
	},
	{
		"log time goes back", "fold.go",
		"f.logTime = max(f.logTime, unixMilli)", "f.logTime = unixMilli",
		"TestFoldTranscripts/clock-back",
	},
	{
		"presumed abort while replaying", "effect.go",
		"if !f.replaying {", "if !f.replaying || e.Presumed {",
		"TestFoldTranscripts/recovery",
	},
	{
		"a recalled transaction has no outcome", "fold.go",
		"tx.yes, tx.outcome, tx.recalled = 1, past.outcome, true", "tx.yes, tx.outcome, tx.recalled = 1, messages.Aborted, true",
		"TestFoldTranscripts/recall",
	},
	{
		"a late yes is not answered", "fold.go",
		"		if holds {\n			f.send(tx, index)\n		}", "",
		"TestFoldTranscripts/done-again",
	},
	{
		"read-only is owed the outcome", "fold.go",
		"return tx.all() &^ ((tx.no | tx.readOnly) &^ (tx.yes | tx.held))", "return tx.all() &^ (tx.no &^ (tx.yes | tx.held))",
		"TestFoldTranscripts/read-only",
	},
	{
		"whoever was read-only once is owed nothing", "fold.go",
		"return tx.all() &^ ((tx.no | tx.readOnly) &^ (tx.yes | tx.held))", "return tx.all() &^ (tx.no | tx.readOnly)",
		"TestFoldTranscripts/read-only",
	},
	{
		"a held no is owed nothing", "fold.go",
		"tx.held |= 1 << index", "",
		"TestFoldTranscripts/held",
	},
	{
		"a stranger's vote counts", "fold.go",
		"f.stats.Stranger++\n		if holds {", "f.decide(tx, Verdict{messages.Aborted, participant, v.Reason, 0, false}); if holds {",
		"TestFoldTranscripts/garbage",
	},
	{
		"a move is forgotten when the transaction is finished", "memory.go",
		"m.refusals[tx.id] = tx.refusal", "m.refusals[tx.id] = refusal{tx.refuser, tx.reason, 0, tx.conflict}",
		"TestFoldTranscripts/moved",
	},
	{
		"a move is forgotten when the transaction is recalled", "fold.go",
		"tx.refusal, tx.parted = past.refusal, past.parted", "tx.refusal, tx.parted = refusal{past.refuser, past.reason, 0, past.conflict}, past.parted",
		"TestFoldTranscripts/moved",
	},
	{
		"a later move makes a transaction that was refused one to try again", "fold.go",
		"	case tx.outcome != messages.Undecided:\n", "	case tx.outcome != messages.Undecided:\n		tx.wrongOwner = max(tx.wrongOwner, v.WrongOwner)\n",
		"TestFoldTranscripts/moved",
	},
	{
		"a move is not told", "fold.go",
		"Reason: v.Reason, WrongOwner: v.WrongOwner,\n", "Reason: v.Reason,\n",
		"TestFoldTranscripts/moved",
	},
	{
		"a conflict is forgotten when the transaction is finished", "memory.go",
		"m.refusals[tx.id] = tx.refusal", "m.refusals[tx.id] = refusal{tx.refuser, tx.reason, tx.wrongOwner, false}",
		"TestFoldTranscripts/conflict",
	},
	{
		"a conflict is forgotten when the transaction is recalled", "fold.go",
		"tx.refusal, tx.parted = past.refusal, past.parted", "tx.refusal, tx.parted = refusal{past.refuser, past.reason, past.wrongOwner, false}, past.parted",
		"TestFoldTranscripts/conflict",
	},
	{
		"a conflict after a refusal makes it one to try again", "fold.go",
		"	case tx.outcome != messages.Undecided:\n", "	case tx.outcome != messages.Undecided:\n		tx.conflict = tx.conflict || v.Conflict\n",
		"TestFoldTranscripts/conflict",
	},
	{
		"a conflict is not told", "fold.go",
		"		Conflict: v.Conflict,\n", "",
		"TestFoldTranscripts/conflict",
	},
	{
		"who voted yes cannot give way any more", "fold.go",
		"	case v.Vote == messages.VoteNo:\n", "	case v.Vote == messages.VoteNo && tx.yes&(1<<index) != 0:\n	case v.Vote == messages.VoteNo:\n",
		"TestFoldTranscripts/conflict",
	},
	{
		"what was routed in two ways is one transaction", "fold.go",
		"case p.Routing != tx.routing:", "case false:",
		"TestFoldTranscripts/routed",
	},
	{
		"a stranger is told what a finished transaction's own participants are", "fold.go",
		"if stranger := ok && indexOf(past.members, participant) < 0; stranger || !ok {", "if stranger := false; stranger || !ok {",
		"TestFoldTranscripts/routed",
	},
	{
		"a stranger joins a transaction that was called back", "fold.go",
		"if index < 0 && tx.recalled && holds && indexOf(tx.members, participant) >= 0 {", "if index < 0 && tx.recalled && holds {",
		"TestFoldTranscripts/routed",
	},
	{
		"a stranger holds its branch for ever", "fold.go",
		"		if holds {\n			f.presume(participant, v.Tx)\n		}\n", "",
		"TestFoldTranscripts/routed",
	},
	{
		"who called a transaction back is all that it has", "fold.go",
		"	if tx.recalled {\n		return tx.members\n	}\n", "",
		"TestFoldTranscripts/routed",
	},
	{
		"participants are forgotten with the first transaction of theirs", "lists.go",
		"if held.uses--; held.uses > 0 {", "if held.uses--; false {",
		"TestFoldModelProperty",
	},
	{
		"a checkpoint parts a transaction that was routed in two ways", "forgotten.go",
		"tx.expires != p.Expires || tx.routing != p.Routing || ", "tx.expires != p.Expires || ",
		"TestFoldReadersProperty",
	},
	{
		"a message is read twice", "fold.go",
		"if f.stopped != nil || sequence <= f.sequence {", "if f.stopped != nil {",
		"TestFoldTranscripts/redelivery",
	},
	{
		"a gap is read over", "fold.go",
		"if sequence != f.sequence+1 {", "if false {",
		"TestFoldTranscripts/gap",
	},
	{
		"forgotten before the expiry", "memory.go",
		"return max(r.expires, min(id.UnixMilli(), r.finishedAt+window))", "return min(id.UnixMilli(), r.finishedAt+window)",
		"TestFoldTranscripts/forget",
	},
	{
		"forgotten before the floor can reach the id", "memory.go",
		"return max(r.expires, min(id.UnixMilli(), r.finishedAt+window))", "return r.expires",
		"TestFoldTranscripts/overflow",
	},
	{
		"a forgotten transaction begins again", "forgotten.go",
		"if !ok && (judged || f.memory.floor == 0 || id.UnixMilli() > f.memory.floor) {", "if _ = judged; !ok {",
		"TestFoldTranscripts/zombie",
	},
	{
		"a checkpoint's reader judges prepares by the later floor", "forgotten.go",
		"judged := f.sequence <= f.forgotten.through", "judged := false",
		"TestFoldTranscripts/judged",
	},
	{
		"a checkpoint parts a transaction", "forgotten.go",
		"if s.first < start && start <= s.last {", "if false {",
		"TestFoldTranscripts/parted",
	},
	{
		"a checkpoint parts a remembered transaction", "memory.go",
		"entry.parted = sequence", "",
		"TestFoldReadersProperty",
	},
	{
		"spans are dropped while a checkpoint can part them", "forgotten.go",
		"if s.last < f.sequence && (i == len(starts) || starts[i] > s.last) {", "{ _ = i",
		"TestFoldReadersProperty",
	},
	{
		"a checkpoint has the current log time", "query.go",
		"Sequence: lowest.sequence, LogTime: lowest.logTime, Floor: f.memory.floor,", "Sequence: lowest.sequence, LogTime: f.logTime, Floor: f.memory.floor,",
		"TestFoldTranscripts/clock-back",
	},
	{
		"a checkpoint forgets what is open", "query.go",
		"lowest = lowest.lower(tx.first)", "_ = tx",
		"TestFoldTranscripts/recovery",
	},
	{
		"a checkpoint goes back", "memory.go",
		"			m.order[0], m.order = nil, m.order[1:]\n			continue", "			if len(b.entries) < m.blockSize { break }; m.order = m.order[1:]; continue",
		"TestFoldStableProperty",
	},
	{
		"a checkpoint passes what could not be read", "query.go",
		"if f.stopped != nil { // a reader that knows the newer version has to read it", "if false {",
		"TestFoldTranscripts/newer-version",
	},
	{
		"a debt is lost when the window is full", "delivery.go",
		"p.head < len(p.queue) && count < messages.MaxRecords && p.underWay < d.cfg.Window; {", "p.head < len(p.queue) && count < messages.MaxRecords; { if p.underWay >= d.cfg.Window { p.head++; continue }",
		"TestDeliveryProperty",
	},
	{
		"the window has no bound", "delivery.go",
		"count < messages.MaxRecords && p.underWay < d.cfg.Window; {", "count < messages.MaxRecords; {",
		"TestDeliveryProperty",
	},
	{
		"a newer yes does not open a debt again", "delivery.go",
		"owed.vote, owed.attempts = max(owed.vote, e.Vote), 0", "if owed.state == settled { return }; owed.vote = max(owed.vote, e.Vote)",
		"TestDeliveryProperty",
	},
	{
		"what was sent once is not sent again", "delivery.go",
		"d.enqueue(due.id, owed)", "",
		"TestDeliveryProperty",
	},
	{
		"finished when one is done", "delivery.go",
		"if o.debts[i].state != settled {\n			return messages.Finished{}, false", "if o.debts[i].state == queued {\n			return messages.Finished{}, false",
		"TestDeliveryProperty",
	},
	{
		"done for an older yes settles", "delivery.go",
		"if done.Vote < owed.vote {", "if false {",
		"TestFoldTranscripts/done-again",
	},
	{
		"a held no is the end of a branch", "branches.go",
		"if !br.held {", "if true {",
		"TestBranchesProperty",
	},
	{
		"an outcome is no end of a branch", "branches.go",
		"	delete(b.branches, tx)\n	b.leave(tx, br)\n", "	delete(b.branches, tx)\n",
		"TestBranchesProperty",
	},
	{
		"who waits for keys in vain waits for ever", "branches_keys.go",
		"		b.wake(tx, br, br.patience)\n", "",
		"TestBranchesTranscripts/wait",
	},
	{
		"keys that come after the outcome have the handler asked", "branches_keys.go",
		"case br == nil || !br.waiting:", "case br == nil:",
		"TestBranchesProperty",
	},
	{
		"keys that come too late have the handler asked", "branches_keys.go",
		"case now >= br.patience: // its no", "case false: // its no",
		"TestBranchesProperty",
	},
	{
		"keys that come too late have the no cast at once", "branches_keys.go",
		"case now >= br.patience: // its no", "case now >= br.patience:\n		b.waitedTooLong(tx, br) // its no",
		"TestBranchesProperty",
	},
	{
		"a yes that is on its way when its branch is wounded stays", "branches.go",
		"case br.vote == messages.VoteYes && br.wounded:", "case false:",
		"TestBranchesTranscripts/wound",
	},
	{
		"the handler's yes makes up for a wound", "branches.go",
		"case br.wounded && (vote == 0 || vote == messages.VoteYes):", "case br.wounded && vote == 0:",
		"TestBranchesTranscripts/wound",
	},
	{
		"a branch is wounded after its outcome is known", "branches_keys.go",
		"br.wounded || br.outcome != messages.Undecided || ", "br.wounded || ",
		"TestBranchesProperty",
	},
	{
		"a conflict is a refusal", "branches_keys.go",
		"br.vote, br.conflict, br.reason = messages.VoteNo, true,", "br.vote, br.conflict, br.reason = messages.VoteNo, false,",
		"TestBranchesTranscripts/conflict",
	},
	{
		"a refusal is no end of a branch", "branches.go",
		"		if !br.held {\n			b.leave(tx, br)\n		}\n", "",
		"TestBranchesTranscripts/leave",
	},
	{
		"a node asks for its handler's rollback in vain", "branches.go",
		"	br.wrongOwner = epoch\n	b.abandon(tx, br, reason)", "	br.wrongOwner, br.vote, br.reason = epoch, messages.VoteNo, reason\n	b.cast(tx, br)",
		"TestBranchesTranscripts/wrong-owner",
	},
}

// TestMutants: see mutant.Test.
func TestMutants(t *testing.T) {
	var bugs []mutant.Bug
	for _, m := range mutants {
		bugs = append(bugs, mutant.Bug{Name: m.name, File: m.file, Line: m.line, Text: m.mutant, Caught: m.caught})
	}
	mutant.Test(t, bugs, nil, "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.checks=3000", "-rapid.seed=1")
}
