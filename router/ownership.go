// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/assent-tx/assent/messages"
)

// A Node is a participant.Ownership: see there for what its methods promise, and for what a crash leaves behind.

// claims are the partitions that branches of transactions hold. Each of them is counted in its gate, as work is that Enter
// let in.
type claims struct {
	mu   sync.Mutex
	held map[messages.ID]*claim
	// expected is how many participants are still to say what their stores hold prepared, and coming how many are still to take
	// part; arrived is closed while none is.
	expected, coming int
	arrived          chan struct{}
	// any: the node has, or had, a participant.
	any bool
	// recalled are the branches that were prepared before the process began. While there is one, nothing is released.
	recalled map[messages.ID]struct{}
}

func (c *claims) hasParticipant() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.any
}

// claim is one branch's. All of holds are given back together, but only those from current on count for asking the handler:
// the others are of terms that are over, in which the node may have lost what it had.
type claim struct {
	term    *term
	holds   []hold
	current int
}

// hold is one key's gate, which was entered.
type hold struct {
	gate  *gate
	gates *gates
	key   string
}

func (c *claims) init() {
	c.held, c.recalled = make(map[messages.ID]*claim), make(map[messages.ID]struct{})
	c.arrived = make(chan struct{})
	close(c.arrived)
}

// recalling tells whether it is not known yet what is in hand since before the process began, or some of it still is.
func (c *claims) recalling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expected > 0 || len(c.recalled) > 0
}

// count is how many holds there are, and how many branches have them.
func (c *claims) count() (holds, branches int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range c.held {
		holds += len(one.holds)
	}
	return holds, len(c.held)
}

// Expect says that a participant's store may hold prepared branches: the node releases nothing until Recall was called, and does
// not join the group until TakesPart was. A participant calls it when it is made, which is before Run.
func (n *Node) Expect() {
	n.claims.mu.Lock()
	n.claims.any = true
	n.claims.expected++
	if n.claims.coming++; n.claims.coming == 1 {
		n.claims.arrived = make(chan struct{})
	}
	n.claims.mu.Unlock()
	n.events.put((*nodeRun).recall)
}

// Recall names the branches that the participant's store holds prepared. Their keys are not known, so until all of them are
// settled the node releases nothing.
func (n *Node) Recall(txs []messages.ID) {
	n.claims.mu.Lock()
	n.claims.expected = max(n.claims.expected-1, 0)
	for _, tx := range txs {
		n.claims.recalled[tx] = struct{}{}
	}
	n.claims.mu.Unlock()
	n.events.put((*nodeRun).recall)
}

// TakesPart says that transactions may be routed to the participant: the node may own keys.
func (n *Node) TakesPart() {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	if n.claims.coming == 0 {
		return
	}
	if n.claims.coming--; n.claims.coming == 0 {
		close(n.claims.arrived)
	}
}

// allTakePart waits until every participant of the node takes part, or ctx ends. What is routed to a node that nobody knows as a
// participant is refused: a node that owned keys before would have transactions fail.
func (c *claims) allTakePart(ctx context.Context) {
	c.mu.Lock()
	arrived := c.arrived
	c.mu.Unlock()
	select {
	case <-arrived:
	case <-ctx.Done():
	}
}

// Claim claims the keys of a branch, all or none, until Settle. WrongOwner is the epoch of the node's ring when it does not own
// one of them or hands it over; the error says which. An error without is an ErrNotReady: worth another try soon.
func (n *Node) Claim(tx messages.ID, routes []messages.Route) (wrongOwner uint64, err error) {
	n.claims.mu.Lock()
	defer n.claims.mu.Unlock()
	c := n.claims.held[tx]
	if c != nil && n.stands(c) {
		return 0, nil
	}
	holds, t, err := n.hold(routes)
	if err != nil {
		var wrong *WrongOwnerError
		if errors.As(err, &wrong) {
			return wrong.Epoch, wrong.reason()
		}
		return 0, err
	}
	if c == nil {
		c = &claim{}
		n.claims.held[tx] = c
	}
	c.term, c.current = t, len(c.holds)
	c.holds = append(c.holds, holds...)
	return 0, nil
}

// stands tells whether a claim is still good: it was made in the term that lasts, and the keys are still the node's, moving or not.
func (n *Node) stands(c *claim) bool {
	s := n.now.Load()
	if s.term != c.term || c.term.err() != nil || s.gone {
		return false
	}
	for _, h := range c.holds[c.current:] {
		if s.gates != h.gates || s.record.Incarnation != h.gates.incarnation || s.record.Ring().Owner(h.key) != n.cfg.Name {
			return false
		}
	}
	return true
}

// hold enters the gates of all keys, or of none.
func (n *Node) hold(routes []messages.Route) (holds []hold, t *term, err error) {
	defer func() {
		if err != nil {
			for _, h := range holds {
				h.gate.leave()
			}
		}
	}()
	for i := range routes {
		route := &routes[i]
		if route.Group != n.cfg.Group {
			return holds, nil, n.stranger(route)
		}
		g, by, err := n.enter(route.Key, route.Incarnation, route.Epoch)
		if err != nil {
			return holds, nil, err
		}
		holds = append(holds, hold{g, by.gates, route.Key})
		if t != nil && by.term != t {
			return holds, nil, n.notReady("its session was lost just now")
		}
		t = by.term
	}
	return holds, t, nil
}

// stranger refuses a route of another group.
func (n *Node) stranger(route *messages.Route) error {
	r := n.now.Load().record
	if r == nil {
		return n.notReady("it has not read its ring yet")
	}
	return &WrongOwnerError{Group: route.Group, Key: route.Key, Node: n.cfg.Name, Incarnation: r.Incarnation, Epoch: r.Epoch}
}

// Settle gives up what a branch holds.
func (n *Node) Settle(tx messages.ID) {
	n.claims.mu.Lock()
	c := n.claims.held[tx]
	delete(n.claims.held, tx)
	_, recalled := n.claims.recalled[tx]
	delete(n.claims.recalled, tx)
	n.claims.mu.Unlock()
	if c != nil {
		for _, h := range c.holds {
			h.gate.leave()
		}
	}
	if recalled {
		n.events.put((*nodeRun).recall)
	}
}

// reason is the error for a vote, whose transaction says which participant it is.
func (e *WrongOwnerError) reason() error {
	what := "does not own"
	if e.Moving {
		what = "is handing over"
	}
	return fmt.Errorf("%w: %s %s key %.80q in epoch %d", ErrWrongOwner, e.Node, what, e.Key, e.Epoch)
}
