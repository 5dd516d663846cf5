// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"maps"
	"time"
)

// open begins to follow a group, or joins those who wait for that. A group that there is not is not followed, and looked for
// again only after a while: whoever can ask for any name must not cost memory or requests.
func (c *Client) open(group string) (*opening, error) {
	if err := checkName("group", group); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("router: %w", ErrClosed)
	}
	if g := (*c.groups.Load())[group]; g != nil {
		done := make(chan struct{})
		close(done)
		return &opening{done: done, group: g}, nil
	}
	if o := c.opening[group]; o != nil {
		return o, nil
	}
	if known, ok := c.unknown[group]; ok && time.Now().Before(known.until) {
		return nil, known.err
	}
	delete(c.unknown, group)
	o := &opening{done: make(chan struct{})}
	c.opening[group] = o
	c.follow.Go(func() { c.finish(group, o) })
	return o, nil
}

// finish reads a group for the first time, and follows it if it is there.
func (c *Client) finish(group string, o *opening) {
	defer close(o.done)
	_, err := c.s.find(c.ctx, group)
	var g *followedGroup
	if err == nil {
		var f *follower
		if f, err = follow(c.s, group); err == nil {
			g = &followedGroup{follower: f}
			if err = f.refresh(c.ctx); f.record() == nil {
				f.close()
			} else {
				err = nil // it has a ring to go by
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.opening, group)
	if c.ctx.Err() != nil && err != nil {
		err = fmt.Errorf("router: %w", ErrClosed)
	}
	if err != nil {
		c.forget()
		c.unknown[group] = failure{err, time.Now().Add(unknownTime)}
		o.err = err
		return
	}
	groups := maps.Clone(*c.groups.Load())
	groups[group] = g
	c.groups.Store(&groups)
	o.group = g
}

// forget makes room for another group that there is not.
func (c *Client) forget() {
	if len(c.unknown) >= maxUnknown {
		clear(c.unknown) // they are looked for again, no more
	}
}
