// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"testing"
	"time"

	"github.com/assent-tx/assent"
)

// Two changes in a load of one transfer every 10 ms: during the first one half of them get through, and one takes long; the second
// one nobody notices.
func TestReportOfChanges(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	e := agreeingGroup()
	e.transfers = nil
	for i := range 1000 {
		began, ended := i*10, i*10+5
		if i == 250 {
			ended += 400
		}
		if i > 250 && i < 300 && i%2 == 1 {
			continue
		}
		tx := e.transfer(accountName(0), accountName(2), assent.Committed, "accounts-1")
		tx.began, tx.ended = at(began), at(ended)
		if i == 250 {
			tx.last = tx.id.Next()
			e.log[tx.last] = &logged{outcome: assent.Committed}
		}
		e.transfers = append(e.transfers, tx)
	}
	first := &change{what: "accounts-4 added", began: at(2000), ended: at(3000), epochs: 7, moved: 1024, all: 4096}
	second := &change{what: "accounts-1 removed", began: at(6000), ended: at(7000), epochs: 5, moved: 800, all: 4096}
	l := &load{transfers: e.transfers, script: newScript(true, first, second)}
	r := newGroupReport(&nodes{count: 3}, e, l)
	if r.Nodes != 3 || r.Retried != 1 || r.Tries != 1 || r.Moved != 1824 || r.Epochs != 12 || r.DuringRatio != 0.75 || r.LongestMS != 405 {
		t.Errorf("in all: %+v", r)
	}
	wants := []ChangeReport{
		{"accounts-4 added", 1024, 4096, 7, 1, 100, 75, 100, 0.75, 405, 1},
		{"accounts-1 removed", 800, 4096, 5, 1, 100, 100, 100.2, 1, 5, 0},
	}
	for i, want := range wants {
		if r.Changes[i] != want {
			t.Errorf("change %d is %+v, want %+v", i, r.Changes[i], want)
		}
	}
}

// A load without transfers or changes is told without dividing by nothing.
func TestReportOfNothing(t *testing.T) {
	e := evidenceOf(nil)
	r := newGroupReport(&nodes{count: 1}, e, &load{script: newScript(true, &change{what: "accounts-2 added"})})
	if c := r.Changes[0]; c.Before != 0 || c.During != 0 || c.Ratio != 0 || r.DuringRatio != 0 {
		t.Errorf("got %+v", c)
	}
}
