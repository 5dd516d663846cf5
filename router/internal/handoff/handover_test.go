// SPDX-License-Identifier: Apache-2.0

package handoff

import "testing"

func TestHandOver(t *testing.T) {
	r, err := New("g", 7, Settings{Partitions: 8, Kind: HandOff})
	if err != nil {
		t.Fatal(err)
	}
	a, b := NewHolder("a"), NewHolder("b")
	holders := map[string]*Holder{"a": a, "b": b}
	v := View{Nodes: map[string]Presence{}, Ended: map[string]int64{}}
	rev := uint64(0)
	run := func() {
		for range 20 {
			for name, h := range holders {
				h.Ring(r)
				for _, s := range h.Take() {
					switch s.Kind {
					case Announce:
						p := h.Presence()
						p.Weight = 1
						rev++
						p.Revision = rev
						v.Nodes[name] = p
					case Shut:
						h.Drained(s.Partition)
					case AskAcquire, AskRelease, AskDrop:
						h.Done(s.Partition, true)
					}
				}
			}
			next, _ := Decide(r, &v)
			if next != nil {
				d, err := Decode(next.Encode())
				if err != nil {
					t.Fatal(err)
				}
				r = d
			}
		}
	}
	a.Joined("sa")
	run()
	b.Joined("sb")
	run()
	n, err := r.Apply(&Change{Action: Remove, Node: "a"})
	if err != nil {
		t.Fatal(err)
	}
	r = n
	run()
	for p := range r.Partitions {
		if r.Owner(p) != "b" {
			t.Errorf("partition %d is %q's", p, r.Owner(p))
		}
	}
	if !a.Quiet() || !b.Ready() {
		t.Errorf("a is quiet: %v; b is ready: %v", a.Quiet(), b.Ready())
	}
}
