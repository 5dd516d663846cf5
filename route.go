// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"fmt"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

// resolver finds the nodes that own keys: what the client needs of router.Client.
type resolver interface {
	// Routes gives the routes of keys of a group, in their order and all by the same ring.
	Routes(ctx context.Context, group string, keys []string) ([]router.Route, error)
	// After waits until the ring of a group is newer than that.
	After(ctx context.Context, group string, incarnation, epoch uint64) error
	Close()
}

// resolver is the client's, made when it is first needed.
func (c *Client) resolver() (resolver, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.ring == nil {
		ring, err := router.NewClient(c.nc, router.Config{Prefix: c.cfg.Prefix, Log: c.cfg.Log})
		if err != nil {
			return nil, fmt.Errorf("assent: %w", err)
		}
		c.ring = ring
	}
	return c.ring, nil
}

// keyGroup is the operations of a transaction that are routed in one group.
type keyGroup struct {
	name string
	keys []string
	// operations has the place of each key's among the transaction's.
	operations []int
	// incarnation and epoch are those of the ring by which they were routed last; 0 before.
	incarnation, epoch uint64
	// nodes are who they were routed to then.
	nodes []string
}

// routedTo tells whether an operation of the group was routed to a node.
func (g *keyGroup) routedTo(node string) bool {
	for _, name := range g.nodes {
		if name == node {
			return true
		}
	}
	return false
}

// resolve routes the operations of the group, once none of its keys is moving.
func (g *keyGroup) resolve(ctx context.Context, tx ID, r resolver, operations []messages.Operation) error {
	for {
		routes, err := r.Routes(ctx, g.name, g.keys)
		if err != nil {
			return g.fault(ctx, tx, 0, err)
		}
		moving := -1
		g.nodes = g.nodes[:0]
		for i := range routes {
			route := &routes[i]
			switch {
			case route.Node == "":
				return g.fault(ctx, tx, i, router.ErrNoNodes)
			case route.Moving:
				moving = i
			}
			op := &operations[g.operations[i]]
			op.Participant = route.Node
			op.Route = &messages.Route{Group: g.name, Key: g.keys[i], Incarnation: route.Incarnation, Epoch: route.Epoch}
			g.incarnation, g.epoch, g.nodes = route.Incarnation, route.Epoch, append(g.nodes, route.Node)
		}
		if moving < 0 {
			return nil
		}
		if err := r.After(ctx, g.name, g.incarnation, g.epoch); err != nil {
			return g.fault(ctx, tx, moving, err)
		}
	}
}

// fault is the error of a router about a key of the group.
func (g *keyGroup) fault(ctx context.Context, tx ID, key int, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("assent: nothing was submitted: group %s, key %.80q: %w", g.name, g.keys[key], context.Cause(ctx))
	}
	return &UnroutableError{Tx: tx, Group: g.name, Key: g.keys[key], Err: err}
}

// awaitRing waits until a ring is newer by which a node was found that does not own the key, for a pause at the most: the
// node may have spoken of another group, or be behind itself. It tells whether one is.
func (tx *Tx) awaitRing(ctx context.Context, r resolver, answer *messages.Answer, pause time.Duration) (newer bool) {
	ctx, cancel := context.WithTimeout(ctx, jitter(pause))
	defer cancel()
	ready, waiting := make(chan bool), 0
	for i := range tx.groups {
		g := &tx.groups[i]
		if !g.routedTo(answer.Participant) {
			continue
		}
		// The node's ring is at least as new as the one by which the client found it.
		name, incarnation, epoch := g.name, g.incarnation, max(g.epoch, answer.WrongOwner-1)
		waiting++
		go func() { ready <- r.After(ctx, name, incarnation, epoch) == nil }()
	}
	if waiting == 0 { // another client routed that attempt: this one's ring may be newer, or not
		<-ctx.Done()
	}
	for range waiting {
		if <-ready {
			newer = true
			cancel() // the others wait for nothing more
		}
	}
	return newer
}
