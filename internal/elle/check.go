// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"cmp"
	"slices"
)

// Options are for Check. The zero Options are what most want.
type Options struct {
	// Limit is how many anomalies of a class are reported with all that belongs to them; default 8. All that are found are
	// counted.
	Limit int
	// Work bounds the search for cycles, in edges looked at for each class; default 20 million, a second or so.
	Work int
}

// Report is what was found.
type Report struct {
	Workload string `json:"workload"`
	// Transactions is how many were invoked; of those Committed, Failed and Unknown are what their clients learnt.
	Transactions int `json:"transactions"`
	Committed    int `json:"committed"`
	Failed       int `json:"failed"`
	Unknown      int `json:"unknown"`
	// Operations is how many the committed ones had, and UnknownReads how many of those are reads whose result was not heard.
	Operations   int `json:"operations"`
	UnknownReads int `json:"unknown_reads"`
	// Levels says of each level whether the history may be one of it.
	Levels []Verdict `json:"levels"`
	// Counts are the anomalies that were found, by class. Of cycles there may be more.
	Counts map[Class]int `json:"counts"`
	// Anomalies are some of each class, the shortest first.
	Anomalies []Anomaly `json:"anomalies"`
	// Truncated: the search for the classes of cycles was ended by Options.Work.
	Truncated bool `json:"truncated,omitempty"`
}

// OK says that no anomaly was found.
func (r *Report) OK() bool { return len(r.Counts) == 0 }

// checker is one check under way.
type checker struct {
	h     *History
	limit int
	work  int
	found *Report

	versionOrders
	graph *graph
}

// Check looks for anomalies in a history.
func Check(h *History, o Options) *Report {
	c := &checker{h: h, limit: cmp.Or(o.Limit, defaultLimit), work: cmp.Or(o.Work, defaultWork)}
	c.found = &Report{Workload: h.Workload, Transactions: len(h.txs), Counts: make(map[Class]int), Anomalies: []Anomaly{}}
	c.count()
	if h.Workload == "bank" {
		c.bank()
	} else {
		c.order()
		c.connect()
		c.cycles()
	}
	slices.SortStableFunc(c.found.Anomalies, func(a, b Anomaly) int {
		return cmp.Or(cmp.Compare(rank(a.Class), rank(b.Class)), cmp.Compare(len(a.Transactions), len(b.Transactions)))
	})
	c.found.Levels = verdicts(c.found)
	return c.found
}

const (
	defaultLimit = 8
	defaultWork  = 20_000_000
)

func (c *checker) count() {
	for i := range c.h.txs {
		t := &c.h.txs[i]
		switch t.outcome {
		case unknown:
			c.found.Unknown++
		case failed:
			c.found.Failed++
		case committed:
			c.found.Committed++
			c.found.Operations += len(t.ops)
			for j := range t.ops {
				if k := t.ops[j].kind; (k == opRead || k == opBalance) && !t.ops[j].known {
					c.found.UnknownReads++
				}
			}
		}
	}
}
