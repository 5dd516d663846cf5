// SPDX-License-Identifier: Apache-2.0

package elle

// kind is why one transaction depends on another, a bit each, so that a set of them is a mask.
type kind uint8

const (
	ww kind = 1 << iota
	wr
	rw
	process
	realtime

	data = ww | wr | rw
	all  = data | process | realtime
)

func (k kind) String() string {
	switch k {
	case ww:
		return "ww"
	case wr:
		return "wr"
	case rw:
		return "rw"
	case process:
		return "process"
	default:
		return "realtime"
	}
}

// edge leads to a node. Key and at say why: a list, and the index of the version that the node's transaction read (wr) or installed
// (ww, rw); after the last one when nobody read it.
type edge struct {
	to   int32
	key  int32
	at   int32
	kind kind
}

// graph is the dependencies. Nodes are the transactions and, after them, instants, which stand for the order in time: a
// transaction leads to the instant of its end, each instant to the next one, and the last one before a transaction began to that. So a few edges a
// transaction say what ended before what, where edges from each to each would be a square number.
type graph struct {
	txs   int32   // how many nodes are transactions
	start []int32 // of each node, its first edge; one more, for the end
	edges []edge
}

func (g *graph) nodes() int32           { return int32(len(g.start)) - 1 }
func (g *graph) from(node int32) []edge { return g.edges[g.start[node]:g.start[node+1]] }

// sketch collects edges in any order.
type sketch struct {
	from  []int32
	edges []edge
}

func (s *sketch) add(from int32, e edge) {
	if from != e.to {
		s.from, s.edges = append(s.from, from), append(s.edges, e)
	}
}

// graph sorts the edges by where they begin.
func (s *sketch) graph(txs, nodes int32) *graph {
	g := &graph{txs: txs, start: make([]int32, nodes+1), edges: make([]edge, len(s.edges))}
	for _, from := range s.from {
		g.start[from+1]++
	}
	for i := range nodes {
		g.start[i+1] += g.start[i]
	}
	next := append([]int32(nil), g.start...)
	for i, from := range s.from {
		g.edges[next[from]] = s.edges[i]
		next[from]++
	}
	return g
}

// connect makes the graph of all dependencies.
func (c *checker) connect() {
	var s sketch
	for key := range c.lineages {
		c.follow(&s, int32(key))
	}
	c.followProcesses(&s)
	txs := int32(len(c.h.txs))
	c.graph = s.graph(txs, c.followTime(&s, txs))
}

// follow adds the edges of one list: versions in their order, their readers, and what comes after a version that was read.
func (c *checker) follow(s *sketch, key int32) {
	l := &c.lineages[key]
	next := c.successors(l)
	for i, writer := range l.writers {
		if at := next[i+1]; c.counts(writer) && at < len(l.writers) {
			s.add(writer, edge{to: l.writers[at], key: key, at: int32(at), kind: ww})
		}
	}
	for _, at := range l.readers {
		o := &c.seen[at]
		n := len(o.list)
		if n > 0 && c.counts(l.writers[n-1]) {
			s.add(l.writers[n-1], edge{to: o.tx, key: key, at: int32(n - 1), kind: wr})
		}
		if after := next[n]; after < len(l.writers) {
			s.add(o.tx, edge{to: l.writers[after], key: key, at: int32(after), kind: rw})
		}
	}
	c.followUnread(s, key, next)
}

// counts: a version's writer is a transaction that happened.
func (c *checker) counts(writer int32) bool { return writer != nobody && c.occurred[writer] }

// successors gives for each number of versions the index of the first one after them whose writer counts.
func (c *checker) successors(l *lineage) []int {
	next := make([]int, len(l.writers)+1)
	next[len(l.writers)] = len(l.writers)
	for i := len(l.writers) - 1; i >= 0; i-- {
		next[i] = next[i+1]
		if c.counts(l.writers[i]) {
			next[i] = i
		}
	}
	return next
}

// maxUnread bounds the edges that say that what nobody read comes after what was: they are readers times appenders.
const maxUnread = 64

// followUnread adds the edges to committed appends that nobody read: all of them come after the versions that somebody read, in an
// order of which nothing is known.
func (c *checker) followUnread(s *sketch, key int32, next []int) {
	l := &c.lineages[key]
	appenders := l.appenders[:min(len(l.appenders), maxUnread)]
	end := int32(len(l.versions))
	for _, tx := range appenders {
		for i := len(l.writers) - 1; i >= 0; i-- {
			if c.counts(l.writers[i]) {
				s.add(l.writers[i], edge{to: tx, key: key, at: end, kind: ww})
				break
			}
		}
	}
	readers := 0
	for i := len(l.readers) - 1; i >= 0 && readers < maxUnread; i-- { // the last ones are of most interest
		o := &c.seen[l.readers[i]]
		if next[len(o.list)] < len(l.writers) {
			continue // it has an edge to a version before
		}
		readers++
		for _, tx := range appenders {
			s.add(o.tx, edge{to: tx, key: key, at: end, kind: rw})
		}
	}
}

// followProcesses adds the order of each process's transactions.
func (c *checker) followProcesses(s *sketch) {
	last := make(map[int32]int32)
	for i := range c.h.txs {
		if !c.occurred[i] {
			continue
		}
		tx := int32(i)
		t := &c.h.txs[i]
		if before, ok := last[t.process]; ok && c.h.txs[before].ended < t.invoked {
			s.add(before, edge{to: tx, kind: process})
		}
		last[t.process] = tx
	}
}

// followTime adds the instants, and gives the number of all nodes.
func (c *checker) followTime(s *sketch, txs int32) int32 {
	node := txs - 1 // of the last instant; none yet
	fresh := false  // something began since it
	for _, moment := range c.moments() {
		tx := moment.tx
		if moment.ended {
			if node < txs || fresh {
				node++
				fresh = false
				if node > txs {
					s.add(node-1, edge{to: node, kind: realtime})
				}
			}
			s.add(tx, edge{to: node, kind: realtime})
			continue
		}
		fresh = true
		if node >= txs {
			s.add(node, edge{to: tx, kind: realtime})
		}
	}
	return node + 1
}

// moment is the beginning or the end of a transaction that happened.
type moment struct {
	tx    int32
	ended bool
}

// moments are in the order of the events.
func (c *checker) moments() []moment {
	last := int32(0)
	for i := range c.h.txs {
		last = max(last, c.h.txs[i].invoked)
		if e := c.h.txs[i].ended; e != never {
			last = max(last, e)
		}
	}
	at := make([]moment, last+1)
	used := make([]bool, last+1)
	for i := range c.h.txs {
		t := &c.h.txs[i]
		if !c.occurred[i] {
			continue
		}
		at[t.invoked], used[t.invoked] = moment{tx: int32(i)}, true
		if t.ended != never {
			at[t.ended], used[t.ended] = moment{tx: int32(i), ended: true}, true
		}
	}
	ordered := at[:0]
	for i := range at {
		if used[i] {
			ordered = append(ordered, at[i])
		}
	}
	return ordered
}
