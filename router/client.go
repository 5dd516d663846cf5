// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/router/ring"
)

// Client routes keys to nodes by rings that it keeps in memory and that follow every change. It is safe for concurrent use;
// one is enough for a process.
type Client struct {
	s      *store
	ctx    context.Context //nolint:containedctx // the life of what reads in the background, which no call's context bounds
	stop   context.CancelFunc
	follow sync.WaitGroup

	groups atomic.Pointer[map[string]*followedGroup] // replaced, never changed

	mu      sync.Mutex // of what follows, and of replacing groups
	closed  bool
	opening map[string]*opening
	unknown map[string]failure
}

// followedGroup is a group that a client follows.
type followedGroup struct {
	*follower
	table atomic.Pointer[table] // of the follower's record, or an older one
}

// opening is the first use of a group, for all who wait for it.
type opening struct {
	done  chan struct{}
	group *followedGroup
	err   error
}

// failure is why a group could not be followed, and until when that is believed.
type failure struct {
	err   error
	until time.Time
}

const (
	// unknownTime is how long it is believed that there is no such group; maxUnknown is how many of them are remembered.
	unknownTime = time.Second
	maxUnknown  = 1024
)

// Route says who is to be asked for a key.
type Route struct {
	Group, Key string
	Partition  int
	// Node owns the key's partition, and takes requests on Subject; both are "" when nobody owns it.
	Node, Subject string
	// Incarnation and Epoch number the ring that says so.
	Incarnation, Epoch uint64
	// Moving: the partition is being handed over, so that Node takes nothing new for it; see Client.After.
	Moving bool
}

// NewClient gives a client on a connection, which stays the caller's and must outlive it; it should reconnect for ever. Nothing
// is sent yet. The error is ErrInvalid for a cfg out of its bounds.
func NewClient(nc *nats.Conn, cfg Config) (*Client, error) {
	s, err := newStore(nc, cfg)
	if err != nil {
		return nil, err
	}
	return newClient(s), nil
}

func newClient(s *store) *Client {
	c := &Client{s: s, opening: make(map[string]*opening), unknown: make(map[string]failure)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.groups.Store(&map[string]*followedGroup{})
	return c
}

// Close ends the following. Calls that wait, and later ones, fail with ErrClosed.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.follow.Wait()
	for _, g := range *c.groups.Load() {
		g.close()
	}
}

// Route says which node owns a key. The first use of a group reads its ring; then it costs no I/O and no memory. The error is
// ErrNoGroup, ErrRecord or ErrNewerRecord when there is no ring to go by, and what a server says that does not answer;
// ErrNoNodes, with a route that has no node, when nobody owns the key.
func (c *Client) Route(ctx context.Context, group, key string) (Route, error) {
	t, err := c.ring(ctx, group)
	if err != nil {
		return Route{}, err
	}
	route := t.route(key)
	if route.Node == "" {
		return route, t.noNodes(key)
	}
	return route, nil
}

// Routes says which nodes own keys, all by the same ring, in the order of the keys. Keys that nobody owns have no node; the error
// is ErrNoNodes when nobody owns anything, otherwise as Route's.
func (c *Client) Routes(ctx context.Context, group string, keys []string) ([]Route, error) {
	t, err := c.ring(ctx, group)
	if err != nil {
		return nil, err
	}
	routes, owned := make([]Route, len(keys)), len(keys) == 0
	for i, key := range keys {
		routes[i] = t.route(key)
		owned = owned || routes[i].Node != ""
	}
	if !owned && t.owned == 0 {
		return routes, t.noNodes(keys[0])
	}
	return routes, nil
}

// Ring gives the ring of owners that Route goes by now, and its number. The error is as Route's.
func (c *Client) Ring(ctx context.Context, group string) (r *ring.Ring, incarnation, epoch uint64, err error) {
	t, err := c.ring(ctx, group)
	if err != nil {
		return nil, 0, 0, err
	}
	return t.ring, t.incarnation, t.epoch, nil
}

// After waits until the ring here is newer than a given one: what a node tells that has a newer ring, or that is handing
// over. The error is ErrNotReached and the context's when ctx ends before; ErrNoGroup when there is no such group any
// more; otherwise as Route's.
func (c *Client) After(ctx context.Context, group string, incarnation, epoch uint64) error {
	g, err := c.group(ctx, group)
	if err != nil {
		return err
	}
	for read := false; ; read = true {
		changed := g.changed()
		r, err := g.current()
		switch {
		case r != nil && r.After(incarnation, epoch) && !errors.Is(err, ErrNoGroup):
			return nil
		case !read: // what it waits for may be there
			if err := g.refresh(ctx); errors.Is(err, ErrClosed) {
				return err
			}
			continue
		case r == nil || errors.Is(err, ErrNoGroup):
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("router: group %s: %w: epoch %d of incarnation %d is the newest: %w", group, ErrNotReached, r.Epoch, r.Incarnation, context.Cause(ctx))
		case <-c.ctx.Done():
			return fmt.Errorf("router: %w", ErrClosed)
		}
	}
}

// ring gives the table of a group.
func (c *Client) ring(ctx context.Context, group string) (*table, error) {
	g, err := c.group(ctx, group)
	if err != nil {
		return nil, err
	}
	return g.ring()
}

// ring gives the table of the newest good record.
func (g *followedGroup) ring() (*table, error) {
	state := g.state.Load()
	if state.record == nil || state.err != nil && errors.Is(state.err, ErrNoGroup) {
		return nil, state.err
	}
	t := g.table.Load()
	if t == nil || t.record != state.record {
		t = newTable(g.s.names, state.record)
		g.table.Store(t)
	}
	return t, nil
}

// group gives a group that is followed, and has been read.
func (c *Client) group(ctx context.Context, group string) (*followedGroup, error) {
	if g := (*c.groups.Load())[group]; g != nil {
		if c.ctx.Err() != nil {
			return nil, fmt.Errorf("router: %w", ErrClosed)
		}
		return g, nil
	}
	o, err := c.open(group)
	if err != nil {
		return nil, err
	}
	select {
	case <-o.done:
		return o.group, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("router: read group %s: %w", group, context.Cause(ctx))
	}
}
