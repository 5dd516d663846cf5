// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Class names a kind of anomaly. Those of cycles may end in Process or Realtime.
type Class string

// The classes of anomalies; the package comment says what they are.
const (
	DuplicateElements Class = "duplicate-elements"
	GarbageRead       Class = "garbage-read"
	IncompatibleOrder Class = "incompatible-order"
	Internal          Class = "internal"
	LostUpdate        Class = "lost-update"
	LostAppend        Class = "lost-append"
	G0                Class = "G0"
	G1a               Class = "G1a"
	G1b               Class = "G1b"
	G1c               Class = "G1c"
	GSingle           Class = "G-single"
	GNonadjacent      Class = "G-nonadjacent"
	G2Item            Class = "G2-item"
	// WrongTotal and NegativeBalance are a bank's.
	WrongTotal      Class = "wrong-total"
	NegativeBalance Class = "negative-balance"
)

// What the class of a cycle ends in when it needs an edge of that kind.
const (
	Process  = "-process"
	Realtime = "-realtime"
)

// Anomaly is one that was found.
type Anomaly struct {
	Class Class `json:"class"`
	// Text says what is wrong, in one or two sentences.
	Text string `json:"text"`
	// Transactions are those that have part in it.
	Transactions []Transaction `json:"transactions"`
	// Edges are those of the cycle, each from one transaction to the next; none for an anomaly that is no cycle.
	Edges []Edge `json:"edges,omitempty"`
}

// Transaction is one of an anomaly's.
type Transaction struct {
	// Label is what texts call it: T and its place among the invocations, from 1. Tx is its name in the history, "" for none.
	Label string `json:"label"`
	Tx    string `json:"tx,omitempty"`
	// Operations is what it did, for people.
	Operations string `json:"ops"`
	// relevant are those of its operations that make the cycle, shorter.
	relevant []string
}

// Edge says that transaction To cannot have run before From, counted from 0.
type Edge struct {
	From int    `json:"from"`
	To   int    `json:"to"`
	Kind string `json:"kind"` // ww, wr, rw, process or realtime
	Key  string `json:"key,omitempty"`
	// Why is a sentence.
	Why string `json:"why"`
}

// transactionsOf describes transactions.
func (c *checker) transactionsOf(txs []int32) []Transaction {
	all := make([]Transaction, len(txs))
	for i, tx := range txs {
		all[i] = Transaction{Label: label(tx), Tx: c.h.txs[tx].name, Operations: c.h.describe(tx)}
	}
	return all
}

// report counts an anomaly that is no cycle, and keeps it if there are few of its class yet. In the format T1 and T2 stand for the
// first two of its transactions.
func (c *checker) report(class Class, txs []int32, format string, args ...any) {
	c.found.Counts[class]++
	if c.found.Counts[class] > c.limit {
		return
	}
	c.found.Anomalies = append(c.found.Anomalies, Anomaly{
		Class: class, Text: fmt.Sprintf(labels(txs).Replace(format), args...), Transactions: c.transactionsOf(txs),
	})
}

// label is what texts call a transaction.
func label(tx int32) string { return "T" + strconv.Itoa(int(tx)+1) }

func labels(txs []int32) *strings.Replacer {
	if len(txs) < 2 {
		return strings.NewReplacer("T1", label(txs[0]))
	}
	return strings.NewReplacer("T1", label(txs[0]), "T2", label(txs[1]))
}

// internal: a read contradicts the reader's own operations.
func (c *checker) internal(at int32, before *operation, own []int64, o *operation) {
	key := c.h.keys[o.key]
	switch {
	case before == nil:
		c.report(Internal, []int32{at}, "T1 had appended %s to %s, and then read %s there.", values(own), key, values(o.list))
	case len(own) == 0:
		c.report(Internal, []int32{at}, "T1 read %s of %s, and then %s, without having appended anything.", values(before.list), key, values(o.list))
	default:
		c.report(Internal, []int32{at}, "T1 read %s of %s and appended %s; then it read %s.", values(before.list), key, values(own), values(o.list))
	}
}

// incompatible: two reads cannot both be of a list to which only is appended.
func (c *checker) incompatible(o *observation, l *lineage) {
	c.report(IncompatibleOrder, []int32{l.reader, o.tx}, "T1 read %s of %s and T2 read %s: neither list begins with the other.",
		values(l.versions), c.h.keys[o.key], values(o.list))
}

// reordered: a transaction's own appends are the wrong way round.
func (c *checker) reordered(key int32, l *lineage) {
	for i := 1; i < len(l.versions); i++ {
		a, b := c.h.writes[version{l.versions[i-1], key}], c.h.writes[version{l.versions[i], key}]
		if l.writers[i] != nobody && l.writers[i] == l.writers[i-1] && a.op > b.op {
			c.report(IncompatibleOrder, []int32{l.writers[i], l.reader}, "T1 appended %d to %s after %d; T2 read %s.",
				l.versions[i-1], c.h.keys[key], l.versions[i], values(l.versions))
		}
	}
}

// duplicates: a list has a value twice.
func (c *checker) duplicates(o *observation) {
	had := make(map[int64]bool, len(o.list))
	for _, v := range o.list {
		if had[v] {
			c.report(DuplicateElements, []int32{o.tx}, "T1 read %s of %s, which has %d twice; it was appended once.", values(o.list), c.h.keys[o.key], v)
			return
		}
		had[v] = true
	}
}

// garbage: a list has a value that nobody appended.
func (c *checker) garbage(o *observation) {
	for _, v := range o.list {
		if _, ok := c.h.writes[version{v, o.key}]; !ok {
			c.report(GarbageRead, []int32{o.tx}, "T1 read %s of %s, and nobody appended %d to it.", values(o.list), c.h.keys[o.key], v)
			return
		}
	}
}

// aborted: a committed transaction read what one appended that failed.
func (c *checker) aborted(o *observation) {
	for _, v := range o.list {
		w, ok := c.h.writes[version{v, o.key}]
		if ok && c.h.txs[w.tx].outcome == failed {
			c.report(G1a, []int32{w.tx, o.tx}, "T1 appended %d to %s and did not commit; T2 read %s.", v, c.h.keys[o.key], values(o.list))
			return
		}
	}
}

// intermediate: a transaction read what another one had appended to already.
func (c *checker) intermediate(o *observation) {
	if len(o.list) == 0 {
		return
	}
	v := o.list[len(o.list)-1]
	w, ok := c.h.writes[version{v, o.key}]
	if !ok || w.last || w.tx == o.tx {
		return
	}
	c.report(G1b, []int32{w.tx, o.tx}, "T1 appended %d to %s, and more after it; T2 read %s, which is T1's half.", v, c.h.keys[o.key], values(o.list))
}

// lostAppends: a list was read after a transaction had ended that appended to it, and what it appended is not in any read.
func (c *checker) lostAppends(key int32, l *lineage) {
	reader := nobody // of the longest, who began last
	for _, at := range l.readers {
		o := &c.seen[at]
		if len(o.list) == len(l.versions) && (reader == nobody || c.h.txs[o.tx].invoked > c.h.txs[reader].invoked) {
			reader = o.tx
		}
	}
	for _, tx := range l.appenders {
		if reader == nobody || tx == reader || c.h.txs[tx].ended > c.h.txs[reader].invoked {
			continue
		}
		c.report(LostAppend, []int32{tx, reader}, "T1 had appended %s to %s and ended before T2 began, which read %s; nobody ever read T1's.",
			values(c.appendedBy(tx, key)), c.h.keys[key], values(l.versions))
	}
}

// appendedBy is what a transaction appended to a list.
func (c *checker) appendedBy(tx, key int32) (all []int64) {
	for _, o := range c.h.txs[tx].ops {
		if o.kind == opAppend && o.key == key {
			all = append(all, o.value)
		}
	}
	return all
}

// lostUpdates: several transactions read the same version of a list and appended to it.
func (c *checker) lostUpdates(key int32, l *lineage) {
	updaters := make(map[int][]int32)
	for _, at := range l.readers {
		o := &c.seen[at]
		if len(c.appendedBy(o.tx, key)) > 0 && !slices.Contains(updaters[len(o.list)], o.tx) {
			updaters[len(o.list)] = append(updaters[len(o.list)], o.tx)
		}
	}
	for _, length := range slices.Sorted(maps.Keys(updaters)) {
		if txs := updaters[length]; len(txs) > 1 {
			slices.Sort(txs)
			c.report(LostUpdate, txs[:min(len(txs), maxShown)], "each of %d transactions read %s of %s and appended to it: all but one did so without having seen another's.",
				len(txs), values(l.versions[:length]), c.h.keys[key])
		}
	}
}

// maxShown is how many transactions an anomaly shows that has many.
const maxShown = 8
