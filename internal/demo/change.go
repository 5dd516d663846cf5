// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tx/assent/internal/children"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// change adds a node to the group, or removes one in order, while the load is under way.
type change struct {
	of *nodes
	c  *cluster
	// add is the number of the node to add; or remove is the process of the one to remove.
	add    int
	remove *children.Process

	what         string
	began, ended time.Time
	epochs       uint64
	moved, all   int // partitions
}

// changePatience is how long the partitions may take to move, on a busy machine.
const changePatience = 2 * time.Minute

// happen returns when every partition is where it belongs.
func (ch *change) happen(ctx context.Context) (said string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, changePatience, errors.New("the partitions did not move in time"))
	defer cancel()
	before, _, epoch, err := ch.of.router.Ring(ctx, accountsGroup)
	if err != nil {
		return "", err
	}
	ch.began = time.Now()
	if ch.remove != nil {
		err = ch.drain(ctx)
	} else {
		err = ch.join(ctx)
	}
	ch.ended = time.Now()
	if err != nil {
		return "", fmt.Errorf("%s: %w", ch.what, err)
	}
	if err := ch.count(ctx, before, epoch); err != nil {
		return "", err
	}
	if ch.remove != nil {
		err = ch.leave(ctx)
	}
	return fmt.Sprintf("%s; %d of %d partitions moved in %v", ch.what, ch.moved, ch.all, ch.ended.Sub(ch.began).Round(time.Millisecond)), err
}

// join starts one more node, and waits until it has its share.
func (ch *change) join(ctx context.Context) error {
	p := ch.of.node(ch.c, ch.add)
	ch.what = p.Name + " added"
	if err := p.Start(); err != nil {
		return err
	}
	return ch.of.untilSettled(ctx, func(g *router.Group) bool {
		partitions, _ := owned(g, p.Name)
		return partitions > 0
	})
}

// drain takes a node's partitions from it, and waits until it has none.
func (ch *change) drain(ctx context.Context) error {
	ch.what = ch.remove.Name + " removed"
	_, err := ch.of.groups.Change(ctx, router.ChangeRequest{Group: accountsGroup, Action: router.ActionDrain, Node: ch.remove.Name})
	if err != nil {
		return err
	}
	return ch.of.untilSettled(ctx, func(g *router.Group) bool {
		partitions, in := owned(g, ch.remove.Name)
		return in && partitions == 0
	})
}

// leave removes the drained node from the group, ends its process in order, and waits until it is gone.
func (ch *change) leave(ctx context.Context) error {
	_, err := ch.of.groups.Change(ctx, router.ChangeRequest{Group: accountsGroup, Action: router.ActionRemove, Node: ch.remove.Name})
	if err != nil {
		return err
	}
	if err := ch.remove.Stop(stopPatience); err != nil {
		return err
	}
	return ch.of.untilSettled(ctx, func(g *router.Group) bool {
		_, in := owned(g, ch.remove.Name)
		return !in
	})
}

// count notes what the change came to.
func (ch *change) count(ctx context.Context, before *ring.Ring, epoch uint64) error {
	g, err := ch.of.groups.Show(ctx, accountsGroup)
	if err != nil {
		return err
	}
	if err := ch.of.router.After(ctx, accountsGroup, g.Incarnation, g.Epoch-1); err != nil {
		return err
	}
	after, _, now, err := ch.of.router.Ring(ctx, accountsGroup)
	if err != nil {
		return err
	}
	ch.moved, ch.all, ch.epochs = len(ring.Diff(before, after).Moves), after.Partitions(), now-epoch
	return nil
}
