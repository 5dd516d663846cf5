// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"fmt"
	"slices"
)

// explain tells a cycle: from which of its transactions on is arbitrary, so it begins with the one that began first.
func (c *checker) explain(class Class, found cycle) Anomaly {
	first := 0
	for i := range found {
		if c.h.txs[found[i].from].invoked < c.h.txs[found[first].from].invoked {
			first = i
		}
	}
	found = append(slices.Clone(found[first:]), found[:first]...)
	a := Anomaly{Class: class, Text: meaning(len(found))}
	txs := make([]int32, len(found))
	for i := range found {
		txs[i] = found[i].from
	}
	a.Transactions = c.transactionsOf(txs)
	for i := range found {
		to := (i + 1) % len(found)
		before := found[(i+len(found)-1)%len(found)].edge
		a.Transactions[i].relevant = c.h.relevant(txs[i], found[i].edge, before)
		e := Edge{From: i, To: to, Kind: found[i].edge.kind.String()}
		if found[i].edge.kind&data != 0 {
			e.Key = c.h.keys[found[i].edge.key]
		}
		e.Why = c.why(found[i], label(txs[i]), label(txs[to]))
		a.Edges = append(a.Edges, e)
	}
	return a
}

// relevant are a transaction's operations on the lists of two edges.
func (h *History) relevant(tx int32, edges ...edge) (parts []string) {
	for i := range h.txs[tx].ops {
		o := &h.txs[tx].ops[i]
		if !slices.ContainsFunc(edges, func(e edge) bool { return e.kind&data != 0 && e.key == o.key }) {
			continue
		}
		if text := h.describeOperation(o); o.kind != opRead || len(text) < 40 || len(o.list) < 2 {
			parts = append(parts, text)
		} else {
			parts = append(parts, fmt.Sprintf("read %s = [%d … %d]", h.keys[o.key], o.list[0], o.list[len(o.list)-1]))
		}
	}
	return parts
}

// meaning is what a cycle means.
func meaning(length int) string {
	return fmt.Sprintf("no order of these %d transactions explains what they saw: each has to come before the next, and the last before the first.", length)
}

// why tells why a step holds between two transactions, by their names.
func (c *checker) why(s step, from, to string) string {
	e := s.edge
	switch e.kind { //nolint:exhaustive // the others follow
	case process:
		return fmt.Sprintf("process %d had ended %s before it began %s.", c.h.txs[s.from].process, from, to)
	case realtime:
		return fmt.Sprintf("%s had ended before %s began.", from, to)
	}
	l, key := &c.lineages[e.key], c.h.keys[e.key]
	unread := int(e.at) == len(l.versions)
	switch {
	case e.kind == wr:
		return fmt.Sprintf("%s read %s of %s, of which %s had appended %d.", to, values(l.versions[:e.at+1]), key, from, l.versions[e.at])
	case e.kind == ww && unread:
		return fmt.Sprintf("%s appended %s to %s after %s's %d: that was read, and the other never was.", to, values(c.unread(e.to, e.key)), key, from, c.installed(s.from, l, e.at))
	case e.kind == ww:
		return fmt.Sprintf("%s appended %d to %s after %s's %d.", to, l.versions[e.at], key, from, c.installed(s.from, l, e.at))
	case unread:
		return fmt.Sprintf("%s read %s of %s, without %s, which %s appended, and which nobody read.", from, values(l.versions), key, values(c.unread(e.to, e.key)), to)
	default:
		return fmt.Sprintf("%s read %s of %s, without %d, which %s appended after that.", from, values(c.readBefore(s.from, l, e)), key, l.versions[e.at], to)
	}
}

// installed is what a transaction had appended last before a version.
func (c *checker) installed(tx int32, l *lineage, at int32) int64 {
	for i := at - 1; i >= 0; i-- {
		if l.writers[i] == tx {
			return l.versions[i]
		}
	}
	panic("elle: an edge of a transaction that installed nothing")
}

// unread is what a transaction appended to a list that nobody read.
func (c *checker) unread(tx, key int32) (all []int64) {
	l := &c.lineages[key]
	for _, v := range c.appendedBy(tx, key) {
		if !slices.Contains(l.versions, v) {
			all = append(all, v)
		}
	}
	return all
}

// readBefore is the longest list that a transaction read and that does not have a version.
func (c *checker) readBefore(tx int32, l *lineage, e edge) (list []int64) {
	for _, at := range l.readers {
		if o := &c.seen[at]; o.tx == tx && len(o.list) <= int(e.at) && len(o.list) >= len(list) {
			list = o.list
		}
	}
	return list
}
