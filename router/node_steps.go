// SPDX-License-Identifier: Apache-2.0

package router

import "github.com/assent-tx/assent/router/internal/handoff"

// do gives an event to the Holder, and carries out all that follows before anything else happens.
func (r *nodeRun) do(event func(*nodeRun)) {
	event(r)
	for {
		r.renew()
		steps := r.h.Take()
		if len(steps) == 0 {
			break
		}
		r.carryOut(steps)
	}
	r.show()
	r.announce()
	r.startHooks()
}

// renew makes the gates of another incarnation. The Holder follows one only when nothing of the one before is in hand, so
// the gates before are shut, and nobody is behind them.
func (r *nodeRun) renew() {
	incarnation := r.h.Incarnation()
	if incarnation == 0 || r.gates != nil && r.gates.incarnation == incarnation {
		return
	}
	r.gates = newGates(incarnation, r.h.Record().Partitions, func(g *gates, p int) {
		r.n.events.put(func(r *nodeRun) { r.drained(g, p) })
	})
}

// carryOut carries out steps. What they end in at once is told to the Holder when all of them are carried out.
func (r *nodeRun) carryOut(steps []handoff.Step) {
	var shut, done []int
	for i := range steps {
		switch s := &steps[i]; s.Kind {
		case handoff.Open:
			r.gates.all[s.Partition].open()
		case handoff.Shut:
			if s.Partition < len(r.gates.all) {
				r.gates.all[s.Partition].shut()
			}
			shut = append(shut, s.Partition)
		case handoff.AskAcquire, handoff.AskRelease, handoff.AskDrop:
			if r.askHook(s) {
				done = append(done, s.Partition)
			}
		case handoff.Announce:
			r.presence.want(s.Urgent)
		}
	}
	for _, p := range shut {
		r.drained(r.gates, p)
	}
	for _, p := range done {
		r.h.Done(p, true)
	}
}

// drained tells the Holder that nothing of a partition is in hand, if that is so: only this goroutine opens gates, so it
// stays so until the Holder has it opened.
func (r *nodeRun) drained(g *gates, p int) {
	if g == r.gates && (p >= len(g.all) || g.all[p].clear()) {
		r.h.Drained(p)
	}
}

// show lets Enter see what the node goes by now. The gates were shut and opened before: whoever still looks at what was before
// is refused by them.
func (r *nodeRun) show() {
	next := stand{record: r.h.Record(), gone: r.gone, gates: r.gates, term: r.term}
	if before := r.n.now.Load(); *before != next {
		r.n.now.Store(&next)
	}
	r.named = r.named || r.h.Named()
	if !r.isReady && r.h.Ready() {
		r.isReady = true
		close(r.n.ready)
		r.n.log.WithField("epoch", next.record.Epoch).Info("the node is in the ring, and acts for what it owns")
	}
}
