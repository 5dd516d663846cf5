// SPDX-License-Identifier: Apache-2.0

package elle

import "slices"

// nobody stands for the writer of a version that none of the transactions appended.
const nobody int32 = -1

// observation is a read of a list as it was before the reader's own appends to it.
type observation struct {
	list    []int64
	tx, key int32
}

// lineage is the order of a list's versions, as the longest read tells it.
type lineage struct {
	versions []int64
	writers  []int32 // of each version; it may have failed, or be nobody
	reader   int32   // who read it
	// readers are the observations that agree with versions.
	readers []int32
	// appenders are the committed appends that are not among versions: they come after them.
	appenders []int32
}

// versionOrders is what reads say about lists.
type versionOrders struct {
	seen     []observation
	lineages []lineage // of each key
	// occurred: the transaction committed, by its client's word or because somebody read what it appended.
	occurred []bool
	// read: the version that an operation installed was read. Operations are numbered through; firstOp is each transaction's first.
	read    []bool
	firstOp []int32
}

// order makes the orders of versions, and reports what speaks against there being one.
func (c *checker) order() {
	c.lineages = make([]lineage, len(c.h.keys))
	c.occurred = make([]bool, len(c.h.txs))
	c.firstOp = make([]int32, len(c.h.txs))
	total := int32(0)
	for i := range c.h.txs {
		c.firstOp[i] = total
		total += int32(len(c.h.txs[i].ops))
		if c.h.txs[i].outcome == committed {
			c.occurred[i] = true
			c.observe(int32(i))
		}
	}
	c.read = make([]bool, total)
	for i := range c.seen {
		o := &c.seen[i]
		if l := &c.lineages[o.key]; len(o.list) >= len(l.versions) {
			l.versions, l.reader = o.list, o.tx
		}
	}
	for i := range c.seen {
		c.place(int32(i))
	}
	for key := range c.lineages {
		c.trace(int32(key))
	}
	c.addAppenders()
	for key := range c.lineages {
		c.judge(int32(key))
	}
}

// observe takes a committed transaction's reads, and reports those that contradict its own operations.
func (c *checker) observe(at int32) {
	ops := c.h.txs[at].ops
	for i := range ops {
		o := &ops[i]
		if o.kind != opRead || !o.known {
			continue
		}
		before, own := view(ops[:i], o.key)
		list := o.list
		agrees := len(list) >= len(own) && slices.Equal(list[len(list)-len(own):], own)
		if agrees {
			list = list[:len(list)-len(own)]
		}
		if before != nil && agrees && slices.Equal(list, before.list) {
			continue // it says nothing new
		}
		if !agrees || before != nil {
			c.internal(at, before, own, o)
		}
		if !agrees || before != nil && appends(ops[:i], o.key) {
			continue // it does not tell how the list was before
		}
		c.seen = append(c.seen, observation{list: list, tx: at, key: o.key})
	}
}

// appends: one of the operations appends to a list.
func appends(ops []operation, key int32) bool {
	return slices.ContainsFunc(ops, func(o operation) bool { return o.kind == opAppend && o.key == key })
}

// view is what a transaction knows of a list by its operations so far: the last read of it, nil if it has not read it, and what it
// appended since.
func view(ops []operation, key int32) (before *operation, own []int64) {
	first := 0
	for i := range ops {
		if ops[i].key == key && ops[i].kind == opRead && ops[i].known {
			before, first = &ops[i], i
		}
	}
	for i := first; i < len(ops); i++ {
		if ops[i].key == key && ops[i].kind == opAppend {
			own = append(own, ops[i].value)
		}
	}
	return before, own
}

// place holds one observation against the longest of its list.
func (c *checker) place(at int32) {
	o := &c.seen[at]
	l := &c.lineages[o.key]
	if slices.Equal(o.list, l.versions[:len(o.list)]) {
		l.readers = append(l.readers, at)
		return
	}
	c.incompatible(o, l)
	c.duplicates(o)
	c.garbage(o)
	c.aborted(o)
}

// trace finds the writers of a list's versions.
func (c *checker) trace(key int32) {
	l := &c.lineages[key]
	l.writers = make([]int32, len(l.versions))
	for i, value := range l.versions {
		l.writers[i] = nobody
		w, ok := c.h.writes[version{value, key}]
		if !ok || c.read[c.firstOp[w.tx]+int32(w.op)] {
			continue // garbage, or a duplicate
		}
		l.writers[i] = w.tx
		c.read[c.firstOp[w.tx]+int32(w.op)] = true
		if c.h.txs[w.tx].outcome == unknown {
			c.occurred[w.tx] = true
		}
	}
}

// addAppenders finds who appended what nobody read.
func (c *checker) addAppenders() {
	for i := range c.h.txs {
		if c.h.txs[i].outcome != committed {
			continue
		}
		for j := range c.h.txs[i].ops {
			o := &c.h.txs[i].ops[j]
			l := &c.lineages[o.key]
			if o.kind == opAppend && !c.read[c.firstOp[i]+int32(j)] && (len(l.appenders) == 0 || l.appenders[len(l.appenders)-1] != int32(i)) {
				l.appenders = append(l.appenders, int32(i))
			}
		}
	}
}

// judge reports what is wrong with one list, apart from cycles.
func (c *checker) judge(key int32) {
	l := &c.lineages[key]
	if len(l.readers) == 0 {
		return
	}
	longest := observation{list: l.versions, tx: l.reader, key: key}
	c.duplicates(&longest)
	c.garbage(&longest)
	c.reordered(key, l)
	for _, at := range l.readers {
		if l.anyFailed(c.h) {
			c.aborted(&c.seen[at])
		}
		c.intermediate(&c.seen[at])
	}
	c.lostAppends(key, l)
	c.lostUpdates(key, l)
}

func (l *lineage) anyFailed(h *History) bool {
	return slices.ContainsFunc(l.writers, func(w int32) bool { return w != nobody && h.txs[w].outcome == failed })
}
