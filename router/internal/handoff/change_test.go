// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

// changes are what operators do, and what comes of it: a record, or an error with what it must say.
var changes = []struct {
	name, record string
	change       Change
	want         string
	err          error
	says         string
}{
	{"add", "data 1 | ..", Change{Action: Add, Node: "s"}, "data 2 | s - | ss", nil, ""},
	{"add with a weight", "data 1 | ..", Change{Action: Add, Node: "s", Weight: 7, Zone: "z", Subject: "x.y"}, "data 2 | s - x7 | ss", nil, ""},
	{"add beside others", "data 4 | a a1 | aa", Change{Action: Add, Node: "s"}, "data 5 | a a1 | s - | aa -> sa | 0@5", nil, ""},
	{"add what is there", "data 4 | a a1 | aa", Change{Action: Add, Node: "a"}, "", ErrExists, "change its weight, or remove it first"},
	{"add an illegal name", "data 4 | a a1 | aa", Change{Action: Add, Node: "a.b"}, "", ErrInvalid, `node "a.b"`},
	{"add no name", "data 4 | a a1 | aa", Change{Action: Add}, "", ErrInvalid, `node ""`},
	{"add an illegal weight", "data 1 | ..", Change{Action: Add, Node: "s", Weight: 1001}, "", ErrInvalid, "weight 1001: want 0 to 1000"},
	{"add a negative weight", "data 1 | ..", Change{Action: Add, Node: "s", Weight: -1}, "", ErrInvalid, "weight -1"},
	{"add an illegal zone", "data 1 | ..", Change{Action: Add, Node: "s", Zone: "a b"}, "", ErrInvalid, `zone "a b"`},
	{"add an illegal subject", "data 1 | ..", Change{Action: Add, Node: "s", Subject: "a.*"}, "", ErrInvalid, `subject "a.*"`},
	{"add an empty token", "data 1 | ..", Change{Action: Add, Node: "s", Subject: "a..b"}, "", ErrInvalid, `subject "a..b"`},
	{"no action", "data 4 | a a1 | aa", Change{Node: "a"}, "", ErrInvalid, `action "": want add, remove, drain, weight, pin or unpin`},
	{"create is not here", "data 4 | a a1 | aa", Change{Action: "create", Node: "a"}, "", ErrInvalid, "create"},
	{"unknown node", "data 4 | a a1 | b b1 | ab", Change{Action: Drain, Node: "c"}, "", ErrNoNode, `group g has no node "c": it has a, b`},
	{"unknown node of none", "data 1 | ..", Change{Action: Remove, Node: "c"}, "", ErrNoNode, "no nodes yet"},

	{"remove", "data 4 | a a1 | b b1 | ab", Change{Action: Remove, Node: "b"}, "data 5 | a a1 | b b1 removing | ab -> aa | 1@5", nil, ""},
	{"remove again", "data 4 | a a1 | b b1 removing | ab -> aa | 1@4", Change{Action: Remove, Node: "b"}, "", ErrInvalid, "removed already: it hands over 1 partitions"},
	{"remove at once", "instant 4 | a a1 | b b1 | ab", Change{Action: Remove, Node: "b"}, "instant 5 | a a1 | b b1 removing | aa", nil, ""},
	{"remove a static one", "data 4 | a a1 | s - | as", Change{Action: Remove, Node: "s"}, "data 5 | a a1 | aa", nil, ""},
	{"remove the last one", "data 4 | a a1 | aa", Change{Action: Remove, Node: "a"}, "", ErrLastNode, "a is the last one of group g that is up and has weight"},
	{"remove the last one with force", "data 4 | a a1 | aa", Change{Action: Remove, Node: "a", Force: true}, "data 5 | a a1 removing | aa", nil, ""},
	{"remove the last static one with force", "data 4 | s - | ss", Change{Action: Remove, Node: "s", Force: true}, "data 5 | ..", nil, ""},
	{"remove the last one that is up", "data 4 | a a1 | b b1 down | ab", Change{Action: Remove, Node: "a"}, "", ErrLastNode, "up"},
	{"remove the last one, drained", "data 4 | a a1 x0 | aa", Change{Action: Remove, Node: "a"}, "data 5 | a a1 x0 removing | aa", nil, ""},
	{"remove one that is down with data", "data 4 | a a1 | b b1 down | abb", Change{Action: Remove, Node: "b"}, "", ErrDownWithData, "holds the data of 2 partitions"},
	{"with force", "data 4 | a a1 | b b1 down | abb", Change{Action: Remove, Node: "b", Force: true}, "data 5 | a a1 | aaa", nil, ""},
	{"remove one that is down without data", "data 4 | a a1 | b b1 down | aaa", Change{Action: Remove, Node: "b"}, "data 5 | a a1 | aaa", nil, ""},
	{"remove one that is down in another kind", "handoff 4 | a a1 | b b1 down | abb", Change{Action: Remove, Node: "b"}, "handoff 5 | a a1 | aaa", nil, ""},
	{
		"what one that is down had goes to none that is down", "data 4 | a a1 | b b1 down | c c1 down x9 | abcc", Change{Action: Remove, Node: "b", Force: true},
		"data 5 | a a1 | c c1 x9 down | aacc", nil, "",
	},
	{"removed, then down", "data 4 | a a1 | b b1 removing down | ab -> aa", Change{Action: Remove, Node: "b"}, "", ErrDownWithData, "remove it with force"},

	{"drain", "data 4 | a a1 | b b1 | ab", Change{Action: Drain, Node: "b"}, "data 5 | a a1 | b b1 x0 | ab -> aa | 1@5", nil, ""},
	{"drain again", "data 4 | a a1 | b b1 x0 | aa", Change{Action: Drain, Node: "b"}, "same", nil, ""},
	{"drain the last one", "data 4 | a a1 | b b1 x0 | aa", Change{Action: Drain, Node: "a"}, "", ErrLastNode, "add another first, or use force"},
	{"drain the last one with force", "data 4 | a a1 | b b1 x0 | aa", Change{Action: Drain, Node: "a", Force: true}, "data 5 | a a1 x0 | b b1 x0 | aa", nil, ""},
	{"drain one that is down", "data 4 | a a1 | b b1 down | ab", Change{Action: Drain, Node: "b"}, "data 5 | a a1 | b b1 x0 down | ab -> aa", nil, ""},

	{"weight", "data 4 | a a1 | b b1 | abab", Change{Action: Weigh, Node: "b", Weight: 3}, "data 5 | a a1 | b b1 x3 | abab -> bbab | 0@5", nil, ""},
	{"the same weight", "data 4 | a a1 | b b1 x3 | abbb", Change{Action: Weigh, Node: "b", Weight: 3}, "same", nil, ""},
	{"weight 0", "data 4 | a a1 | b b1 | ab", Change{Action: Weigh, Node: "b"}, "", ErrInvalid, "drain it"},
	{"weight beyond", "data 4 | a a1 | b b1 | ab", Change{Action: Weigh, Node: "b", Weight: 1001}, "", ErrInvalid, "want 1 to 1000"},
	{"stay after all", "data 5 | a a1 | b b1 removing | ab -> aa | 1@5", Change{Action: Weigh, Node: "b", Weight: 1}, "data 6 | a a1 | b b1 | ab", nil, ""},
	{"weight of one that leaves", "handoff 4 | a a1 | b b1 leaving | aa", Change{Action: Weigh, Node: "b", Weight: 2}, "", ErrInvalid, "when it is back"},

	{"pin", "data 4 | a a1 | b b1 | ab", Change{Action: Pin, Node: "b", Partition: 0}, "data 5 | a a1 | b b1 | ab -> ba | 0=b | 0@5 1@5", nil, ""},
	{"pin again", "data 4 | a a1 | b b1 | ba | 0=b", Change{Action: Pin, Node: "b"}, "same", nil, ""},
	{"pin elsewhere", "data 4 | a a1 | b b1 | ba | 0=b", Change{Action: Pin, Node: "a"}, "data 5 | a a1 | b b1 | ba -> ab | 0=a | 0@5 1@5", nil, ""},
	{"pin no partition", "data 4 | a a1 | aa", Change{Action: Pin, Node: "a", Partition: 2}, "", ErrInvalid, "partition 2 of group g: want 0 to 1"},
	{"pin a negative one", "data 4 | a a1 | aa", Change{Action: Pin, Node: "a", Partition: -1}, "", ErrInvalid, "partition -1"},
	{"pin to nobody", "data 4 | a a1 | aa", Change{Action: Pin, Node: "x"}, "", ErrNoNode, `"x"`},
	{"pin to one that is drained", "data 4 | a a1 | b b1 x0 | aa", Change{Action: Pin, Node: "b"}, "", ErrInvalid, "no force"},
	{"pin to one that is down", "data 4 | a a1 | b b1 down | ab", Change{Action: Pin, Node: "b"}, "data 5 | a a1 | b b1 down | ab -> aa | 0=b", nil, ""},
	{"unpin", "data 4 | a a1 | b b1 | ab | 0=b 1=a", Change{Action: Unpin, Partition: 0}, "data 5 | a a1 | b b1 | ab -> ba | 1=a | 0@5 1@5", nil, ""},
	{"unpin what is not", "data 4 | a a1 | b b1 | ab", Change{Action: Unpin, Partition: 0}, "", ErrInvalid, "partition 0 of group g is not pinned"},
	{"unpin no partition", "data 4 | a a1 | b b1 | ab", Change{Action: Unpin, Partition: 9}, "", ErrInvalid, "want 0 to 1"},
	{"the last epoch", "data 9007199254740991 | a a1 | b b1 | ab", Change{Action: Drain, Node: "a"}, "", ErrInvalid, "delete it and create it again"},
}

func TestApply(t *testing.T) {
	for _, c := range changes {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			r := draw(t, c.record)
			next, err := r.Apply(&c.change)
			switch {
			case c.err != nil:
				if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v", err)
				}
			case err != nil:
				t.Error(err)
			case c.want == "same":
				if next != r {
					t.Errorf("gives %s", show(next))
				}
			case show(next) != c.want:
				t.Errorf("\n     %s, %+v\ngot  %s\nwant %s", c.record, c.change, show(next), c.want)
			default:
				if again, err := Decode(next.Encode()); err != nil || show(again) != c.want {
					t.Errorf("read again: %v", err)
				}
			}
			if show(r) != show(draw(t, c.record)) {
				t.Errorf("the record has become %s", show(r))
			}
		})
	}
}

func TestApplyAtTheBounds(t *testing.T) {
	r, err := New("g", 1, Settings{Kind: Instant, Partitions: MaxPins + 1})
	if err != nil {
		t.Fatal(err)
	}
	for i := range ring.MaxNodes {
		r.Nodes = append(r.Nodes, Node{Name: fmt.Sprintf("n%04d", i), Weight: 1, Static: true})
	}
	if _, err := r.Apply(&Change{Action: Add, Node: "one-more"}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "remove one first") {
		t.Errorf("one more node: %v", err)
	}
	if _, err := r.Apply(&Change{Action: Drain, Node: "none"}); !errors.Is(err, ErrNoNode) || !strings.Contains(err.Error(), "n0015 and 1008 more") {
		t.Errorf("an unknown node: %v", err)
	}
	for p := range MaxPins {
		r.Pins[p] = "n0000"
	}
	if _, err := r.Apply(&Change{Action: Pin, Node: "n0001", Partition: MaxPins}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "unpin a partition first") {
		t.Errorf("one more pin: %v", err)
	}
	if _, err := r.Apply(&Change{Action: Pin, Node: "n0001"}); err != nil {
		t.Errorf("another pin in place of one: %v", err)
	}
	next, wait := Decide(r, &View{Nodes: map[string]Presence{"one-more": {V: Version, Session: "s", Weight: 1, Incarnation: 1, Revision: 1}}})
	if next != nil || wait != 0 {
		t.Errorf("one more joins")
	}
}
