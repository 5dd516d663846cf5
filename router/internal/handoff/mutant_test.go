// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"testing"

	"github.com/assent-tx/assent/internal/mutant"
)

// mutants are guards left out, each with what finds that out. An exploration that finds nothing proves little, unless it finds what
// is there.
var mutants = []struct {
	name, file string
	// line is in the file exactly once; mutant takes its place.
	line, mutant string
	// caught is the test that fails.
	caught string
}{
	{
		"a node acts by a record that does not name its session", "holder.go",
		"return n != nil && n.Session == h.session && !n.Down", "return n != nil",
		"TestExplore/crash",
	},
	{
		"an old session's ack counts", "decide.go",
		"case !ok || said.Session != owner.Session || said.Incarnation", "case !ok || said.Incarnation",
		"TestDecide",
	},
	{
		"an ack counts for another move", "decide.go",
		"!slices.Contains(said.Released, Move{p, since}):", "!slices.ContainsFunc(said.Released, func(m Move) bool { return m.Partition == p && since > 0 }):",
		"TestExplore/operators",
	},
	{
		"an ack of another incarnation counts", "decide.go",
		"said.Session != owner.Session || said.Incarnation != d.from.Incarnation,", "said.Session != owner.Session,",
		"TestDecide",
	},
	{
		"a session is replaced that may live", "decide.go",
		"said.Session != n.Session && (n.Down || v.ended(n.Session)) &&", "said.Session != n.Session &&",
		"TestExplore/crash",
	},
	{
		"an older presence takes a node's place", "decide.go",
		"&& said.Revision > n.Revision && d.mayJoin", "&& d.mayJoin",
		"TestDecide",
	},
	{
		"released with work in hand", "holding.go",
		"case o.clear && !h.recalling && o.hook == 0", "case !h.recalling && o.hook == 0",
		"TestExplore/operators",
	},
	{
		"released with work in hand that is not recalled", "holding.go",
		"case o.clear && !h.recalling && o.hook == 0", "case o.clear && o.hook == 0",
		"TestExplore/recall",
	},
	{
		"drained is believed before everything is recalled", "holder.go",
		"			h.shut(p, o)\n", "",
		"TestExplore/recall",
	},
	{
		"open again after a release", "holding.go",
		"		o.acquired = false\n		h.ask(AskRelease, p, o)", "		h.ask(AskRelease, p, o)",
		"TestExplore/operators",
	},
	{
		"a release for one target counts for another", "draft.go",
		"d.moving[p] = d.epoch()\n			d.changed = true", "d.changed = true",
		"TestExplore/targets",
	},
	{
		"a release for a move that is over counts", "holding.go",
		"case o.role == gives && o.since == o.hookSince:", "case o.role == gives:",
		"TestHolderTranscripts/target-changes",
	},
	{
		"what was acquired outlives the session", "holding.go",
		"	o.acquired = false\n	switch {", "	switch {",
		"TestExplore/alone",
	},
	{
		"what a hook did outlives the session", "holding.go",
		"	o.void = o.hook != 0\n", "",
		"TestExplore/alone",
	},
	{
		"acquired with work in hand", "holding.go",
		"case !o.busy && o.failed != AskAcquire:", "case o.failed != AskAcquire:",
		"TestExplore/alone",
	},
	{
		"somebody joins while a node follows an earlier incarnation", "decide.go",
		"	if d.awaits(v) {\n		return\n	}\n", "	_ = d.awaits\n",
		"TestExplore/made-again",
	},
	{
		"a node joins that has not read the record", "decide.go",
		"return said.Incarnation == d.from.Incarnation && !said.Leaving", "return !said.Leaving",
		"TestDecide",
	},
	{
		"a node follows an incarnation with something of another in hand", "holder.go",
		"h.incarnation != h.record.Incarnation && h.Quiet() {", "h.incarnation != h.record.Incarnation {",
		"TestExplore/made-again",
	},
	{
		"an older record is believed", "holder.go",
		"if before != nil && (before.After(r.Incarnation, r.Epoch) || !h.gone && !r.After(before.Incarnation, before.Epoch)) {", "if before == r {",
		"TestHolderTranscripts/handover",
	},
	{
		"a partition is given to a node that is down", "target.go",
		"if target := d.node(targets[p]); target != nil && target.Down && target.Name != owner {", "if target := d.node(targets[p]); target != nil && target.Down && target.Name == \"-\" {",
		"TestDecide",
	},
	{
		"taken from the last node only to be nobody's", "target.go",
		"if keeper := d.node(owner); targets[p] == \"\" && keeper != nil && !keeper.Leaving {", "if keeper := d.node(owner); targets[p] == \"-\" && keeper != nil {",
		"TestExplore/operators-data",
	},
	{
		"completed to a node that is down", "decide.go",
		"case target != nil && !target.Down, target == nil && d.targets[p] == \"\":", "case target != nil, target == nil && d.targets[p] == \"\":",
		"TestDecide",
	},
	{
		"a move of an owner that is down goes on for ever", "draft.go",
		"case owner == nil || owner.Static || owner.Down || d.targets[p] == owner.Name:", "case owner == nil || owner.Static || d.targets[p] == owner.Name:",
		"TestExplore/three-nodes",
	},
	{
		"more moves than may be", "draft.go",
		"case !d.rest && len(d.moving) < d.from.Batch:", "case !d.rest:",
		"TestDecide",
	},
	{
		"moves begin during a rest", "draft.go",
		"case !d.rest && len(d.moving) < d.from.Batch:", "case len(d.moving) < d.from.Batch:",
		"TestDecideRests",
	},
	{
		"a node that is removed is taken out while it lives", "decide.go",
		"case empty && (n.Leaving || n.Removing && n.Down),", "case empty && (n.Leaving || n.Removing),",
		"TestDecide",
	},
	{
		"a lost node's partitions are given away within the grace", "decide.go",
		"over := known && elapsed >= d.from.grace()", "over := known",
		"TestDecide",
	},
	{
		"a lost node with data is taken out", "decide.go",
		"n.Down && over && (empty || d.from.Kind != Data): // it is lost", "n.Down && over:",
		"TestDecide",
	},
	{
		"a partition of a node that is down is given away", "draft.go",
		"case owner.Down: // its data is there, or it is given the grace to come back\n			continue", "case owner.Down:\n			d.owners[p] = target",
		"TestDecide",
	},
	{
		"the target is not computed when a node is back", "decide.go",
		"	n.Leaving, n.Down = false, false\n	d.reshaped, d.changed = true, true", "	n.Leaving, n.Down = false, false\n	d.changed = true",
		"TestSimulation",
	},
	{
		"a node that comes or goes waits for a batch", "decide.go",
		"if !slices.Equal(r.Nodes, next.Nodes) || !maps.Equal(r.Pins, next.Pins) {", "if !maps.Equal(r.Pins, next.Pins) {",
		"TestMayWait",
	},
	{
		"a batch that is released waits", "decide.go",
		"return next.Since(m.Partition) == m.Since })", "return m.Since > 0 })",
		"TestMayWait",
	},
	{
		"a hook that failed is not asked again", "holder.go",
		"		o.failed = 0\n", "",
		"TestExplore/operators",
	},
}

// TestMutants: see mutant.Test.
func TestMutants(t *testing.T) {
	var bugs []mutant.Bug
	for _, m := range mutants {
		bugs = append(bugs, mutant.Bug{Name: m.name, File: m.file, Line: m.line, Text: m.mutant, Caught: m.caught})
	}
	mutant.Test(t, bugs, func(t *testing.T, output string) { t.Logf("%s", output) })
}
