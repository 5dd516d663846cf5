// SPDX-License-Identifier: Apache-2.0

package elle

// components are the strongly connected ones of a part of a graph, in the reverse of a topological order: no edge leads from
// a component to one with a greater number.
type components struct {
	of    []int32 // of each node; none outside of the part
	size  []int32
	first []int32 // each component's members are nodes[first[i]:first[i+1]]
	nodes []int32
}

const none int32 = -1

// members are the nodes of a component.
func (cs *components) members(i int32) []int32 { return cs.nodes[cs.first[i]:cs.first[i+1]] }

// tarjan is Tarjan's algorithm (1972), without recursion: a history is deeper than any stack.
type tarjan struct {
	g       *graph
	mask    kind
	within  func(from, to int32) bool
	index   []int32 // of each node, when it was met; 0: not yet
	low     []int32
	stack   []int32 // nodes whose component is not known
	calls   []call
	counter int32
	out     *components
}

// call stands for a call of the recursive algorithm: a node, and its next edge.
type call struct{ node, edge int32 }

// connected gives the components of the nodes (nil: all) by edges of the mask, within being asked about each edge (nil: yes).
func (g *graph) connected(mask kind, nodes []int32, within func(from, to int32) bool) *components {
	n := g.nodes()
	t := &tarjan{g: g, mask: mask, within: within, index: make([]int32, n), low: make([]int32, n), out: &components{of: make([]int32, n)}}
	for i := range t.out.of {
		t.out.of[i] = none
	}
	if nodes == nil {
		for node := range n {
			t.visit(node)
		}
	}
	for _, node := range nodes {
		t.visit(node)
	}
	t.out.first = append(t.out.first, int32(len(t.out.nodes)))
	return t.out
}

// visit finds all components that can be reached from a node.
func (t *tarjan) visit(root int32) {
	if t.index[root] != 0 {
		return
	}
	t.enter(root)
	for len(t.calls) > 0 {
		top := &t.calls[len(t.calls)-1]
		edges := t.g.from(top.node)
		if int(top.edge) == len(edges) {
			t.leave()
			continue
		}
		e := &edges[top.edge]
		top.edge++
		switch {
		case e.kind&t.mask == 0 || t.within != nil && !t.within(top.node, e.to):
		case t.index[e.to] == 0:
			t.enter(e.to)
		case t.out.of[e.to] == none: // still on the stack
			t.low[top.node] = min(t.low[top.node], t.index[e.to])
		}
	}
}

func (t *tarjan) enter(node int32) {
	t.counter++
	t.index[node], t.low[node] = t.counter, t.counter
	t.stack = append(t.stack, node)
	t.calls = append(t.calls, call{node: node})
}

// leave returns from a node: it may be the root of a component.
func (t *tarjan) leave() {
	node := t.calls[len(t.calls)-1].node
	t.calls = t.calls[:len(t.calls)-1]
	if len(t.calls) > 0 {
		parent := t.calls[len(t.calls)-1].node
		t.low[parent] = min(t.low[parent], t.low[node])
	}
	if t.low[node] != t.index[node] {
		return
	}
	id := int32(len(t.out.size))
	t.out.first = append(t.out.first, int32(len(t.out.nodes)))
	for {
		member := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.out.of[member] = id
		t.out.nodes = append(t.out.nodes, member)
		if member == node {
			break
		}
	}
	t.out.size = append(t.out.size, int32(len(t.out.nodes))-t.out.first[id])
}
