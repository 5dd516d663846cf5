// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"strings"
	"testing"
)

// decisions are the rules of Decide. Empty want is: nothing to do.
var decisions = []struct {
	name, record, view, want string
	wait                     int64
}{
	{"nothing", "data 1 | ...", "", "", 0},
	{"nothing new", "data 3 | a a1 | aaa", "a1", "", 0},
	{"the first joins and gets all", "data 1 | ....", "a1", "data 2 | a a1 | aaaa", 0},
	{"two join at once", "data 1 | ....", "a1, b1", "data 2 | a a1 | b b1 | abab", 0},
	{"with its weight", "data 1 | ...", "a1 x3", "data 2 | a a1 x3 | aaa", 0},
	{"without weight", "data 1 | ...", "a1 x0", "data 2 | a a1 x0 | ...", 0},
	{"not one that leaves", "data 1 | ...", "a1 leaving", "", 0},
	{"not one whose session has ended", "data 1 | ...", "a1, a1 ended 5", "", 0},
	{"not one that has not read the record", "data 1 | ...", "a1 early", "", 0},
	{"nobody while another follows an earlier incarnation", "data 1 | ...", "a1, b1 before", "", 0},
	{"unless that has ended", "data 1 | ...", "a1, b1 before, b1 ended 1", "data 2 | a a1 | aaa", 0},
	{"an illegal presence", "data 1 | ...", "a1 x2000", "", 0},
	{"a join moves as many as may move", "handoff 4 | a a1 | aaaaaa", "a1, b1", "handoff 5 | a a1 | b b1 | aaaaaa -> baabba | 0@5 3@5", 0},
	{"in kind instant they go at once", "instant 4 | a a1 | aaaaaa", "a1, b1", "instant 5 | a a1 | b b1 | baabba", 0},
	{
		"released, the next begin", "handoff 5 | a a1 | b b1 | aaaaaa -> bbabaa | 0@5 1@5", "a1 0@5 1@5, b1",
		"handoff 6 | a a1 | b b1 | bbaaaa -> bbabaa | 3@6", 0,
	},
	{"one of two released", "handoff 5 | a a1 | b b1 | aa -> bb | 0@5 1@5", "a1 1@5, b1", "handoff 6 | a a1 | b b1 | ab -> bb | 0@5", 0},
	{"what was said of another move", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1 1@4 0@5, b1", "", 0},
	{"what another session said", "handoff 5 | a a2 | b b1 | aa -> ab | 1@5", "a1 1@5, b1", "", 0},
	{"what was said in another incarnation", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1 before 1@5, b1", "", 0},
	{"what is said of what it does not own", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1, b1 1@5", "", 0},
	{
		"released, but the target is down", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1 1@5, b1, b1 ended 5",
		"handoff 6 | a a1 | b b1 down | aa", 995,
	},
	{
		"released by one that is down since", "data 5 | a a1 | b b1 | aa -> ab | 1@5", "a1 1@5, a1 ended 5, b1",
		"data 6 | a a1 down | b b1 | ab", 0,
	},
	{"down", "handoff 3 | a a1 | b b1 | ab", "a1, b1, b1 ended 10", "handoff 4 | a a1 | b b1 down | ab", 990},
	{"down, within the grace", "handoff 4 | a a1 | b b1 down | ab", "a1, b1, b1 ended 999", "", 1},
	{"the soonest counts", "handoff 4 | a a1 | b b1 down | c c1 down | abc", "a1, b1 ended 300, c1 ended 800", "", 200},
	{"the grace is over", "handoff 4 | a a1 | b b1 down | ab", "a1, b1, b1 ended 1000", "handoff 5 | a a1 | aa", 0},
	{"the grace is over at once", "handoff 4 | a a1 | b b1 | ab", "a1, b1, b1 ended 1000", "handoff 5 | a a1 | aa", 0},
	{"down, of which this steward does not know since when", "handoff 4 | a a1 | b b1 down | ab", "a1, b1", "", 0},
	{"in kind data it keeps them", "data 4 | a a1 | b b1 down | ab", "a1, b1, b1 ended 100000", "", 0},
	{"in kind data it goes when it has nothing", "data 4 | a a1 | b b1 x0 down | aa", "a1, b1 ended 1000", "data 5 | a a1 | aa", 0},
	{"the last one is lost", "handoff 4 | a a1 | aa", "a1, a1 ended 1000", "handoff 5 | ..", 0},
	{"its moves are called off", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1, b1, a1 ended 0", "handoff 6 | a a1 down | b b1 | aa -> ab", 1000},
	{"its partitions go to targets at once", "handoff 6 | a a1 down | b b1 | aa -> ab", "a1 ended 1000, b1", "handoff 7 | b b1 | bb", 0},
	{
		"nothing new goes to one that is down", "data 4 | a a1 down | b b1 | c c1 down x9 | aabbcc", "b1, c1, a1 ended 2000, a2",
		"data 5 | a a2 | b b1 | c c1 x9 down | aabbcc", 0,
	},
	{
		"moves to one that goes down go elsewhere", "handoff 5 | a a1 x0 | b b1 | c c1 | aabc -> bcbc | 0@5 1@5", "a1, b1, c1, c1 ended 0",
		"handoff 6 | a a1 x0 | b b1 | c c1 down | aabc -> bbbc | 0@5 1@6", 1000,
	},
	{"back", "data 4 | a a1 | b b1 down | ab", "a1, b2", "data 5 | a a1 | b b2 | ab", 0},
	{"back before anybody saw it go", "data 4 | a a1 | b b1 | ab", "a1, b2, b1 ended 3000", "data 5 | a a1 | b b2 | ab", 0},
	{"back with the weight that it had", "data 4 | a a1 | b b1 x3 | abbb", "a1, b2, b1 ended 0", "data 5 | a a1 | b b2 x3 | abbb", 0},
	{"not back while the session before may live", "data 4 | a a1 | b b1 | ab", "a1, b2", "", 0},
	{"back and ended already", "data 4 | a a1 | b b1 | ab", "a1, b2, b2 ended 3, b1 ended 5", "data 5 | a a1 | b b1 down | ab", 0},
	{"an older process is not back", "data 4 | a a1 | b b2 down | ab", "a1, b1", "", 0},
	{"a move of one that is back goes on", "data 6 | a a1 down | b b1 | aa -> ab", "a2, b1", "data 7 | a a2 | b b1 | aa -> ba | 0@7", 0},
	{"leaving", "handoff 4 | a a1 | b b1 | ab", "a1, b1 leaving", "handoff 5 | a a1 | b b1 leaving | ab -> aa | 1@5", 0},
	{"leaving at once", "instant 4 | a a1 | b b1 | ab", "a1, b1 leaving", "instant 5 | a a1 | b b1 leaving | aa", 0},
	{"left", "handoff 5 | a a1 | b b1 leaving | aa", "a1, b1 leaving", "handoff 6 | a a1 | aa", 0},
	{"left for good before it had handed over", "handoff 5 | a a1 | b b1 leaving | ab -> aa | 1@5", "a1, b1 leaving, b1 ended 0", "handoff 6 | a a1 | aa", 0},
	{"the last one leaves to nobody", "handoff 4 | a a1 | aa", "a1 leaving", "handoff 5 | a a1 leaving | aa -> .. | 0@5 1@5", 0},
	{"the last one has left", "handoff 5 | a a1 leaving | aa -> .. | 0@5 1@5", "a1 leaving 0@5 1@5", "handoff 6 | a a1 leaving | ..", 0},
	{
		"somebody comes while the last one leaves", "handoff 5 | a a1 leaving | aa -> .. | 0@5 1@5", "a1 leaving, b1",
		"handoff 6 | a a1 leaving | b b1 | aa -> bb | 0@6 1@6", 0,
	},
	{
		"two join one after the other", "handoff 5 | a a1 | b b1 | aaaaaa -> baabba | 0@5 3@5", "a1, b1, c1",
		"handoff 6 | a a1 | b b1 | c c1 | aaaaaa -> baabcc | 0@5 3@5", 0,
	},
	{"in kind data nobody leaves", "data 4 | a a1 | b b1 | ab", "a1, b1 leaving", "", 0},
	{"back while it was leaving", "handoff 5 | a a1 | b b1 leaving | ab -> aa | 1@5", "a1, b2, b1 ended 5", "handoff 6 | a a1 | b b2 | ab", 0},
	{"removed, it stays while it lives", "handoff 5 | a a1 | b b1 removing | aa", "a1, b1", "", 0},
	{"removed, its process has ended", "handoff 5 | a a1 | b b1 removing | aa", "a1, b1, b1 ended 0", "handoff 6 | a a1 | aa", 0},
	{"removed, its process has begun again", "handoff 5 | a a1 | b b1 removing | aa", "a1, b2 x2, b1 ended 5", "handoff 6 | a a1 | b b2 x2 | aa -> ba | 0@6", 0},
	{"removed, back before it has handed over", "handoff 5 | a a1 | b b1 removing | ab -> aa | 1@5", "a1, b2, b1 ended 5", "handoff 6 | a a1 | b b2 removing | ab -> aa | 1@5", 0},
	{"removed while nobody else can have it", "handoff 5 | a a1 removing | b b1 x0 down | aa", "a1, b1 ended 1000", "handoff 6 | a a1 removing | aa", 0},
	{"a static node gives at once", "handoff 4 | a - | aa", "b1", "handoff 5 | a - | b b1 | ba", 0},
	{"a static node is never judged", "handoff 4 | a - | aa", "", "", 0},
	{"a static node gets a process", "handoff 4 | a - x2 | aa", "a1", "handoff 5 | a a1 x2 | aa", 0},
}

func TestDecide(t *testing.T) {
	for _, c := range decisions {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			r := draw(t, c.record)
			next, wait := Decide(r, drawView(t, c.view))
			got := ""
			if next != nil {
				got = show(next)
				if again, err := Decode(next.Encode()); err != nil || show(again) != got {
					t.Errorf("read again: %v", err)
				}
			}
			if got != c.want || wait != c.wait {
				t.Errorf("\n     %s, %s\ngot  %s, %d\nwant %s, %d", c.record, c.view, got, wait, c.want, c.wait)
			}
			if show(r) != show(draw(t, c.record)) {
				t.Errorf("the record has become %s", show(r))
			}
		})
	}
}

// A steward that rests completes moves, gives what is nobody's and lets nodes join, and begins no moves; the next one does.
func TestDecideRests(t *testing.T) {
	for _, c := range []struct{ name, record, view string }{
		{"a batch is released", "handoff 5 | a a1 | b b1 | aa -> bb | 0@5", "a1 0@5, b1"},
		{"somebody joins", "handoff 5 | a a1 | aa", "a1, b1"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			r, v := draw(t, c.record), drawView(t, c.view)
			v.Rest = true
			resting, _ := Decide(r, v)
			if resting == nil || len(resting.Moving) != 0 {
				t.Fatalf("resting it gives %v, want a record in which nothing moves", resting)
			}
			if again, _ := Decide(resting, v); again != nil {
				t.Errorf("resting on, it gives %s", show(again))
			}
			v.Rest = false
			if next, _ := Decide(resting, v); next == nil || len(next.Moving) == 0 {
				t.Errorf("after the rest it begins nothing: %v", next)
			}
		})
	}
}

// patience is which records may wait for others.
var patience = []struct {
	name, record, view string
	may                bool
}{
	{"one of two is released", "handoff 5 | a a1 | b b1 | aa -> bb | 0@5 1@5", "a1 1@5, b1", true},
	{"all are released", "handoff 5 | a a1 | b b1 | aa -> bb | 0@5 1@5", "a1 0@5 1@5, b1", false},
	{"the only one is released", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1 1@5, b1", false},
	{"the batch is released, others begin", "handoff 5 | a a1 | b b1 | aaaa -> bbba | 0@5 1@5", "a1 0@5 1@5, b1", false},
	{"one of two is released, another begins", "handoff 5 | a a1 | b b1 | aaaa -> bbba | 0@5 1@5", "a1 0@5, b1", true},
	{"of two owners one has released all", "handoff 5 | a a1 | b b1 | c c1 | ab -> cc | 0@5 1@5", "a1 0@5, b1, c1", true},
	{"somebody joins meanwhile", "handoff 5 | a a1 | b b1 | aaaa -> bbaa | 0@5 1@5", "a1 0@5, b1, c1", false},
	{"somebody joins who is to have nothing", "handoff 5 | a a1 | b b1 | aaaa -> bbaa | 0@5 1@5", "a1 0@5, b1, c1 x0", false},
	{"an owner is lost meanwhile", "handoff 5 | a a1 | b b1 | c c1 | ab -> cc | 0@5 1@5", "a1 0@5, b1, c1, b1 ended 0", false},
	{"a target is lost meanwhile", "handoff 5 | a a1 | b b1 | aa -> bb | 0@5 1@5", "a1 0@5, b1, b1 ended 0", false},
	{"a node leaves meanwhile", "handoff 5 | a a1 | b b1 | aa -> ab | 1@5", "a1, b1 leaving", false},
	{"somebody is back meanwhile", "data 5 | a a1 | b b1 | c c1 down | aac -> bbc | 0@5 1@5", "a1 0@5, b1, c2", false},
	{"a partition of nobody is given", "handoff 5 | a a1 | b b1 | aa. -> bba | 0@5 1@5", "a1 0@5, b1", false},
}

func TestMayWait(t *testing.T) {
	for _, c := range patience {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			r := draw(t, c.record)
			next, _ := Decide(r, drawView(t, c.view))
			if next == nil {
				t.Fatal("nothing follows")
			}
			if r.MayWait(next) != c.may {
				t.Errorf("\n     %s, %s\n     %s may wait: %v, want %v", c.record, c.view, show(next), !c.may, c.may)
			}
		})
	}
	for _, text := range []string{"data 5 | a - | b - | ab | 0=b", "data 5 | a - | b - | ab -> bb"} { // an operator's, as far as it goes
		if r := draw(t, "data 5 | a - | b - | ab"); r.MayWait(draw(t, text)) {
			t.Errorf("%s may wait", text)
		}
	}
}

func TestDecideAtTheLastEpoch(t *testing.T) {
	r := draw(t, "data 9007199254740991 | ..")
	if next, wait := Decide(r, drawView(t, "a1")); next != nil || wait != 0 {
		t.Errorf("%s follows, or something after %d ms", show(next), wait)
	}
}
