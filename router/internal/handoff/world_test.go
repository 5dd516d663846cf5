// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"fmt"
	"slices"
)

// A world is a group with its stewards, operators and nodes: everything that the core does not do itself, and everything that can
// go wrong with it. The explorations walk through all worlds of a scope, the simulation at random through one.

// scope is what may happen in a world, and how often.
type scope struct {
	name       string
	nodes      int
	partitions int
	kind       Kind
	batch      int
	// warm is how many nodes are in the group at the beginning, and act.
	warm int
	// changes are what operators may do, each once, in any order.
	changes []Change
	// crashes, losses, failures, leaves and recreations are how often a process dies, a session is lost in a process that
	// lives, a hook fails, a process ends gracefully, and the group is deleted and made again.
	crashes, losses, failures, leaves, recreations int
	// recall: work in hand outlives a process, and the next one is told of it.
	recall bool
	// zombies: a presence may be stored by a process that was paused meanwhile, over that of the next one.
	zombies bool
	// work: work enters and leaves partitions.
	work bool
	// past is how many older versions of the record, and of each presence, may still be read.
	past int
	// epochs bounds the records of an incarnation, so that what goes round and round ends.
	epochs uint64
	// states is how many states the quick run goes through, at most.
	states int
}

// limits of a world.
const (
	maxNodes      = 5
	maxPartitions = 16
)

type world struct {
	scope *scope
	// records are the versions that may be read, the newest last.
	records []*Record
	nodes   [maxNodes]*member
	// changed are the changes of the scope that were made, as bits.
	changed uint32
	left    struct{ crashes, losses, failures, leaves, recreations int }
	// released is the last move that a node has released of a partition, and by which session.
	released [maxPartitions][maxNodes]release
	// had is the session of a node that has acquired a partition, or has begun to, and not released it; 0 none.
	had    [maxPartitions][maxNodes]int
	broken string
}

type release struct {
	session int
	since   uint64
	to      string
}

// member is a node: its process, if one lives, and what is stored of it.
type member struct {
	holder *Holder // nil while no process lives
	// sessions is how many it has had; the last one is current if joined.
	sessions int
	joined   bool
	// ended has the sessions that have ended, as bits.
	ended uint32
	// said are the presences that a steward may know, the newest last.
	said []Presence
	// saying is what is to be stored as presence, or on its way there.
	saying *Presence
	// open are the partitions that work may enter, as bits.
	open uint32
	// work is the session in which the work began that is in hand of a partition; 0 none.
	work [maxPartitions]int
	// durable is work that has outlived its process and that the next one does not know yet.
	durable [maxPartitions]int
	// hooks are the hooks that run.
	hooks [maxPartitions]StepKind
	// to is who the hook gives the partition to.
	to      [maxPartitions]string
	leaving bool
	// follows is the incarnation that its process is at.
	follows uint64
	// sum stands for all of it; 0 after a change.
	sum uint64
}

func nodeName(i int) string { return string(rune('a' + i)) }

func sessionName(i, session int) string { return fmt.Sprintf("%s%d", nodeName(i), session) }

// firstIncarnation is the incarnation of a world's group.
const firstIncarnation = 100

func newWorld(s *scope) *world {
	w := &world{scope: s}
	w.left.crashes, w.left.losses, w.left.failures, w.left.leaves, w.left.recreations = s.crashes, s.losses, s.failures, s.leaves, s.recreations
	w.records = []*Record{w.create(firstIncarnation)}
	for i := range s.nodes {
		w.nodes[i] = &member{}
	}
	for i := range s.warm {
		w.do(&action{verb: "start", node: i})
		w.do(&action{verb: "read", node: i})
		w.do(&action{verb: "join", node: i})
	}
	for w.broken == "" {
		a := w.next(byNodes, false)
		if a == nil || s.warm == 0 {
			break
		}
		w.do(a)
	}
	w.nodes[0].sum = 0
	return w
}

func (w *world) create(incarnation uint64) *Record {
	r, err := New("g", incarnation, Settings{Partitions: w.scope.partitions, Kind: w.scope.kind, GraceMS: grace, Batch: w.scope.batch})
	if err != nil {
		panic(err)
	}
	return r
}

const grace = 1000

func (w *world) newest() *Record { return w.records[len(w.records)-1] }

// clone gives a world in which one node may change, or the shared part.
func (w *world) clone(node int) *world {
	n := *w
	if node >= 0 {
		n.nodes[node] = n.nodes[node].clone()
	}
	return &n
}

func (m *member) clone() *member {
	n := *m
	n.sum = 0
	if m.holder != nil {
		h := *m.holder
		h.holdings = make(map[int]*holding, len(m.holder.holdings))
		for p, o := range m.holder.holdings {
			copied := *o
			h.holdings[p] = &copied
		}
		h.steps = slices.Clone(h.steps)
		n.holder = &h
	}
	return &n
}

// do carries an action out, in place. The node that it is about must not be shared with another world.
func (w *world) do(a *action) {
	if a.verb == "decide" || a.verb == "change" || a.verb == "recreate" {
		w.write(a)
		w.check()
		return
	}
	m := w.nodes[a.node]
	m.sum = 0
	switch a.verb {
	case "session ends":
		m.ended |= 1 << a.what
		for p := range w.scope.partitions {
			if w.had[p][a.node] == a.what {
				w.had[p][a.node] = 0
			}
		}
	case "say":
		m.said = append(slices.Clip(m.said), *m.saying)
		m.said = m.said[max(0, len(m.said)-1-w.scope.past):]
		m.saying = nil
	case "start":
		m.holder = NewHolder(nodeName(a.node))
		m.leaving = false
		if w.scope.recall {
			m.holder.Expect()
		}
	case "crash":
		w.left.crashes--
		w.crash(m)
	case "exit":
		w.crash(m)
	default:
		w.doProcess(a, m)
		w.settle(a.node, m)
	}
	w.check()
}

func (w *world) crash(m *member) {
	if w.scope.recall {
		for p, work := range m.work {
			if work != 0 {
				m.durable[p] = work
			}
		}
	}
	m.holder, m.joined, m.open, m.leaving = nil, false, 0, false
	m.work, m.hooks = [maxPartitions]int{}, [maxPartitions]StepKind{}
}

func (w *world) doProcess(a *action, m *member) {
	switch a.verb {
	case "lose":
		w.left.losses--
		m.joined = false
		m.holder.Lost()
	case "join":
		m.sessions++
		m.joined = true
		m.holder.Joined(sessionName(a.node, m.sessions))
	case "leave":
		w.left.leaves--
		m.leaving = true
		w.say(m)
	case "read":
		m.holder.Ring(w.records[len(w.records)-1-a.what])
	case "recall":
		m.work, m.durable = m.durable, [maxPartitions]int{}
		m.holder.Recalled()
	case "hook succeeds":
		w.succeed(a.node, a.what, m)
	case "hook fails":
		w.left.failures--
		m.hooks[a.what] = 0
		m.holder.Done(a.what, false)
	case "retry":
		m.holder.Retry(a.what)
	case "work enters":
		m.work[a.what] = m.sessions
	case "work leaves":
		m.work[a.what] = 0
		if m.open&(1<<a.what) == 0 {
			m.holder.Drained(a.what)
		}
	default:
		panic(a.verb)
	}
}

func (w *world) succeed(i, p int, m *member) {
	hook := m.hooks[p]
	m.hooks[p] = 0
	if o := m.holder.holdings[p]; hook == AskRelease && m.joined && !o.void {
		w.released[p][i] = release{m.sessions, o.hookSince, m.to[p]}
		if w.had[p][i] == m.sessions {
			w.had[p][i] = 0
		}
	}
	m.holder.Done(p, true)
}

// say has the presence stored, some time.
func (w *world) say(m *member) {
	said := m.holder.Presence()
	said.Weight, said.Leaving, said.Revision = 1, m.leaving, uint64(m.sessions)
	m.saying = &said
}

// settle carries out the holder's steps.
func (w *world) settle(i int, m *member) {
	for steps := m.holder.Take(); len(steps) > 0; steps = m.holder.Take() {
		for _, step := range steps {
			w.carryOut(i, m, &step)
		}
		for _, step := range steps {
			if p := step.Partition; step.Kind == Shut && m.work[p] == 0 && m.open&(1<<p) == 0 {
				m.holder.Drained(p)
			}
		}
	}
	if m.holder.incarnation != m.follows { // nothing of the one before is here any more
		m.follows = m.holder.incarnation
		for p := range w.had {
			w.had[p][i] = 0
		}
	}
}

func (w *world) carryOut(i int, m *member, step *Step) {
	p := step.Partition
	switch step.Kind {
	case Open:
		m.open |= 1 << p
	case Shut:
		m.open &^= 1 << p
	case Announce:
		w.say(m)
	default:
		if m.hooks[p] != 0 {
			w.breaks("%s is asked to %v partition %d while its hook %v runs", nodeName(i), step.Kind, p, m.hooks[p])
		}
		m.hooks[p], m.to[p] = step.Kind, step.To
		w.checkHook(i, m, step)
	}
}

// write stores another record.
func (w *world) write(a *action) {
	var next *Record
	switch a.verb {
	case "decide":
		next = a.next
		if next == nil {
			next, _ = Decide(w.newest(), w.viewOf(a))
		}
	case "change":
		w.changed |= 1 << a.what
		next, _ = w.newest().Apply(&w.scope.changes[a.what])
	case "recreate":
		w.recreate()
		return
	}
	if next == nil || next == w.newest() {
		return
	}
	w.checkRecord(w.newest(), next)
	w.records = append(slices.Clip(w.records), next)
	w.records = w.records[max(0, len(w.records)-1-w.scope.past):]
}

// recreate deletes the record and makes another. Whoever looks at the presences after that sees none that is older.
func (w *world) recreate() {
	w.left.recreations--
	w.records = append(slices.Clip(w.records), w.create(w.newest().Incarnation+1))
	w.records = w.records[max(0, len(w.records)-1-w.scope.past):]
	for i := range w.scope.nodes {
		m := w.nodes[i].clone()
		m.said = m.said[max(0, len(m.said)-1):]
		w.nodes[i] = m
	}
	for p := range w.released {
		w.released[p] = [maxNodes]release{}
	}
}

// viewOf is what a steward sees.
func (w *world) viewOf(a *action) *View {
	v := &View{Nodes: make(map[string]Presence), Ended: make(map[string]int64)}
	elapsed := int64(1)
	if a.grace {
		elapsed = grace
	}
	for i := range w.scope.nodes {
		m := w.nodes[i]
		if age := int(a.view[i]); age >= 0 && age < len(m.said) {
			said := m.said[len(m.said)-1-age]
			if n := w.newest().Node(nodeName(i)); n != nil && w.scope.zombies {
				said.Revision = n.Revision + 1
			}
			v.Nodes[nodeName(i)] = said
		}
		for session := 1; a.knows&(1<<i) != 0 && session <= m.sessions; session++ {
			if m.ended&(1<<session) != 0 {
				v.Ended[sessionName(i, session)] = elapsed
			}
		}
	}
	return v
}

// mayMiss tells whether a steward may know no presence of a node, or an old one: after the group was made again it must know those that
// were there.
func (w *world) mayMiss() bool { return w.newest().Incarnation == firstIncarnation }
