// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"strings"
	"testing"

	"github.com/assent-tx/assent/internal/mutant"
)

// shellMutants are bugs of the shells round the core, or of a handler, and the promise that each breaks.
var shellMutants = []struct {
	rule  mutation
	scope string
	// broken is part of what the exploration says.
	broken string
}{
	{tellEarly, "two leaders", "a client was told"},
	{storeLower, "trimming", "and the log begins after"},
	{ackEarly, "late sibling", "healed, but"},
	{forgetfulHand, "committed once", "twice"},
	{noReplay, "two leaders, crashing", "rolled back"},
	{letGo, "keys", "its keys are free"},
	{holdTwice, "keys, no-wait", "two transactions hold"},
}

// TestExploreFindsShellMutants: an exploration that finds nothing proves little, unless it finds what is there.
func TestExploreFindsShellMutants(t *testing.T) {
	for _, m := range shellMutants {
		t.Run(strings.ReplaceAll(string(m.rule), " ", "-"), func(t *testing.T) {
			s := scopeNamed(m.scope)
			s.rule = m.rule
			e := explore(&s, s.states)
			if e.found == nil || !strings.Contains(e.found.broken, m.broken) {
				t.Fatalf("%d states, found: %v", len(e.nodes), e.found)
			}
			t.Logf("after %d states:\n%s", len(e.nodes), e.found)
		})
	}
}

func scopeNamed(name string) scope {
	for _, s := range scopes {
		if s.name == name {
			return s
		}
	}
	panic("no scope " + name)
}

// coreMutants are bugs of the core that the exploration finds, each by a scope; see mutants.
var coreMutants = []struct{ name, file, line, mutant, scope string }{
	{
		"a participant rolls back by its own decision", "branches.go",
		`b.abandon(tx, br, "the prepare came after its expiry")`, "br.outcome = messages.Aborted; b.apply(tx, br)",
		"redelivery",
	},
	{
		"done for an older yes settles", "delivery.go",
		"if done.Vote < owed.vote {", "if false {",
		"late-sibling",
	},
	{
		"finished does not look at newer votes", "fold.go",
		"if sequence > fin.Through {", "if sequence > fin.Through+1000 {",
		"late-sibling",
	},
	{
		"a done covers an effect that came while the call ran", "branches.go",
		"br.again = br.again || (!first && br.calling && e.Vote > br.covers)", "br.covers = max(br.covers, e.Vote)",
		"later-sibling",
	},
	{
		"two calls of the handler at once", "branches.go",
		"if first && !br.calling {", "if first {",
		"two-leaders",
	},
	{
		"a prepare that its rollback overtook is only acknowledged", "branches.go",
		"if settled && past.outcome != messages.Aborted {", "if settled && past.outcome <= messages.Aborted {",
		"late-sibling",
	},
	{
		"a late no that is held is not answered", "fold.go",
		"holds := v.Vote == messages.VoteYes || (v.Vote == messages.VoteNo && v.Held)", "holds := v.Vote == messages.VoteYes",
		"late-sibling",
	},
	{
		"a late yes is not answered", "fold.go",
		"		if holds {\n			f.send(tx, index)\n		}", "",
		"two-leaders",
	},
	{
		"a gap in the log is read over", "fold.go",
		"if sequence != f.sequence+1 {", "if false {",
		"trimming",
	},
	{
		"a forgotten transaction begins again", "forgotten.go",
		"if !ok && (judged || f.memory.floor == 0 || id.UnixMilli() > f.memory.floor) {", "if _ = judged; !ok {",
		"committed-once",
	},
	{
		"a forgotten transaction is alive again", "forgotten.go",
		"if !ok && (judged || f.memory.floor == 0 || id.UnixMilli() > f.memory.floor) {", "if _ = judged; !ok {",
		"alive-again",
	},
	{
		"the last vote wins", "fold.go",
		"	case tx.outcome != messages.Undecided:\n		if holds {", "	case tx.outcome == messages.Aborted && v.Vote == messages.VoteYes && tx.yes == tx.all():\n		tx.outcome = messages.Committed\n		f.sendOwed(tx)\n	case tx.outcome != messages.Undecided:\n		if holds {",
		"two-leaders",
	},
	{
		"votes are decided before log time", "fold.go",
		"	f.expire()\n	f.memory.forget(f.cfg, f.logTime, &f.forgotten)\n", "	f.memory.forget(f.cfg, f.logTime, &f.forgotten)\n	defer f.expire()\n",
		"two-leaders",
	},
	{
		"a wounded branch rolls back by its own decision", "branches_keys.go",
		"	b.abandon(tx, br, br.wound)\n", "	br.outcome = messages.Aborted\n	b.apply(tx, br)\n",
		"keys",
	},
	{
		"who gave way after a yes holds nothing", "branches_keys.go",
		"	b.abandon(tx, br, br.wound)\n", "	b.abandon(tx, br, br.wound)\n	br.held = false\n",
		"keys",
	},
	{
		"who gave way is forgotten when the log has its no", "branches.go",
		"case br.vote == messages.VoteYes, br.held && br.guarded:", "case br.vote == messages.VoteYes:",
		"keys",
	},
	{
		"a no after a yes does not count", "fold.go",
		"	case v.Vote == messages.VoteNo:\n", "	case v.Vote == messages.VoteNo && tx.yes&(1<<index) != 0:\n	case v.Vote == messages.VoteNo:\n",
		"keys",
	},
	{
		"a retry is lost while the vote is under way", "branches.go",
		"br.wakeAt != due.at || br.calling {", "br.wakeAt != due.at || br.calling || br.voting {",
		"every-fault",
	},
}

// TestExploreFindsCoreMutants: see mutant.Test.
func TestExploreFindsCoreMutants(t *testing.T) {
	var bugs []mutant.Bug
	for _, m := range coreMutants {
		bugs = append(bugs, mutant.Bug{Name: m.name, File: m.file, Line: m.line, Text: m.mutant, Caught: "TestExplore/" + m.scope})
	}
	mutant.Test(t, bugs, func(t *testing.T, output string) {
		if !strings.Contains(output, "=> ") {
			t.Fatalf("it fails without a history:\n%s", output)
		}
		t.Logf("%s", output)
	})
}
