// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/messages"
)

// router finds the nodes that own keys.
type router interface {
	// Routes gives the routes of keys of a group, in their order and all by the same ring.
	Routes(ctx context.Context, group string, keys []string) ([]route, error)
	// After waits until the ring of a group is newer than that.
	After(ctx context.Context, group string, incarnation, epoch uint64) error
	Close()
}

// route is where a key is.
type route struct {
	node               string
	incarnation, epoch uint64
	// moving: the node is about to hand the key over, and takes nothing new for it.
	moving bool
}

// router is the client's, made when it is first needed.
func (c *Client) router() (router, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.ring == nil {
		ring, err := newRouter(c.nc, &c.cfg)
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
func (g *keyGroup) resolve(ctx context.Context, tx ID, r router, operations []messages.Operation) error {
	for {
		routes, err := r.Routes(ctx, g.name, g.keys)
		if err != nil {
			return g.fault(ctx, tx, 0, err)
		}
		moving := -1
		g.nodes = g.nodes[:0]
		for i, route := range routes {
			if route.moving {
				moving = i
			}
			op := &operations[g.operations[i]]
			op.Participant = route.node
			op.Route = &messages.Route{Group: g.name, Key: g.keys[i], Incarnation: route.incarnation, Epoch: route.epoch}
			g.incarnation, g.epoch, g.nodes = route.incarnation, route.epoch, append(g.nodes, route.node)
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
func (tx *Tx) awaitRing(ctx context.Context, r router, answer *messages.Answer, pause time.Duration) (newer bool) {
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

// newRouter makes the router of a client.
func newRouter(*nats.Conn, *Config) (router, error) {
	return nil, errors.New("there is no router")
}
