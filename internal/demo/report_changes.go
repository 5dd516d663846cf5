// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"sort"
	"time"

	"github.com/assent-tx/assent"
)

// GroupReport is what is told of a group of nodes beside the rest.
type GroupReport struct {
	// Nodes is how many there were in the beginning.
	Nodes int `json:"nodes"`
	// Retried transfers met keys that moved, and were tried again under another id: Tries times in all.
	Retried int `json:"retried"`
	Tries   int `json:"tries"`
	// Moved partitions and Epochs of the ring, over all changes.
	Moved  int    `json:"partitions_moved"`
	Epochs uint64 `json:"epochs"`
	// DuringRatio is the least of the changes' ratios, and LongestMS the longest of their times; 0 without changes.
	DuringRatio float64 `json:"during_ratio"`
	LongestMS   float64 `json:"longest_unavailable_ms"`
	// Changes are what was changed, in order.
	Changes []ChangeReport `json:"changes"`
}

// ChangeReport is one node that was added or removed.
type ChangeReport struct {
	What string `json:"change"`
	// Moved of so many Partitions, in so many Epochs of the ring, in Seconds.
	Moved      int     `json:"partitions_moved"`
	Partitions int     `json:"partitions"`
	Epochs     uint64  `json:"epochs"`
	Seconds    float64 `json:"seconds"`
	// Before, During and After are transfers that ended, committed or aborted, a second: since the change before it or the load's
	// beginning; while it lasted; until the next one or the load's end. Ratio is During to Before.
	Before float64 `json:"tps_before"`
	During float64 `json:"tps_during"`
	After  float64 `json:"tps_after"`
	Ratio  float64 `json:"during_ratio"`
	// LongestMS is the longest time, in milliseconds, from the beginning of a transfer to its outcome while the change lasted,
	// through all its tries: so long was a key unavailable to a client that went on asking, and the protocol's own time is in it.
	LongestMS float64 `json:"longest_unavailable_ms"`
	// Retried are the transfers among them that were tried again.
	Retried int `json:"retried"`
}

// newGroupReport tells of nodes and of what was changed.
func newGroupReport(s *nodes, e *evidence, l *load) *GroupReport {
	r := &GroupReport{Nodes: s.count, Changes: []ChangeReport{}}
	r.Retried, r.Tries = e.retried()
	var changes []*change
	for _, a := range l.script.acts {
		if c, ok := a.(*change); ok {
			changes = append(changes, c)
		}
	}
	ends := newEnds(l.transfers)
	from := ends.first
	for i, c := range changes {
		to := ends.last()
		if i+1 < len(changes) {
			to = changes[i+1].began
		}
		one := ChangeReport{
			What: c.what, Moved: c.moved, Partitions: c.all, Epochs: c.epochs, Seconds: round(c.ended.Sub(c.began).Seconds(), 3),
			Before: ends.rate(from, c.began), During: ends.rate(c.began, c.ended), After: ends.rate(c.ended, to),
		}
		if one.Before > 0 {
			one.Ratio = round(one.During/one.Before, 2)
		}
		one.meet(c, l.transfers)
		r.add(&one)
		from = c.ended
	}
	return r
}

// add sums up.
func (r *GroupReport) add(c *ChangeReport) {
	if len(r.Changes) == 0 || c.Ratio < r.DuringRatio {
		r.DuringRatio = c.Ratio
	}
	r.Changes = append(r.Changes, *c)
	r.Moved += c.Moved
	r.Epochs += c.Epochs
	r.LongestMS = max(r.LongestMS, c.LongestMS)
}

// meet looks at the transfers that were under way while the change lasted.
func (r *ChangeReport) meet(c *change, transfers []transfer) {
	for i := range transfers {
		t := &transfers[i]
		if t.began.After(c.ended) || t.ended.Before(c.began) {
			continue
		}
		r.LongestMS = max(r.LongestMS, round(milliseconds(t.ended.Sub(t.began)), 1))
		if t.last != t.id {
			r.Retried++
		}
	}
}

// ends are the times at which transfers ended, in order.
type ends struct {
	first time.Time // at which one began
	times []time.Time
}

func newEnds(transfers []transfer) *ends {
	e := &ends{}
	for i := range transfers {
		t := &transfers[i]
		if e.first.IsZero() || t.began.Before(e.first) {
			e.first = t.began
		}
		if t.outcome == assent.Committed || t.outcome == assent.Aborted {
			e.times = append(e.times, t.ended)
		}
	}
	sort.Slice(e.times, func(i, j int) bool { return e.times[i].Before(e.times[j]) })
	return e
}

func (e *ends) last() time.Time {
	if len(e.times) == 0 {
		return e.first
	}
	return e.times[len(e.times)-1]
}

// rate is how many ended a second in a span of time.
func (e *ends) rate(from, to time.Time) float64 {
	if !to.After(from) {
		return 0
	}
	at := func(when time.Time) int {
		return sort.Search(len(e.times), func(i int) bool { return e.times[i].After(when) })
	}
	return round(float64(at(to)-at(from))/to.Sub(from).Seconds(), 1)
}
