// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// ringGroup is the group whose nodes are the coordinators, and whose partitions are the shards.
const ringGroup = "coordinators"

// rings tells the ring of a group, and waits for a later one. *router.Client is one.
type rings interface {
	Ring(ctx context.Context, group string) (r *ring.Ring, incarnation, epoch uint64, err error)
	After(ctx context.Context, group string, incarnation, epoch uint64) error
}

// startRouting runs what a coordinator does for routing, beside its leaders and without being needed by them: the routing
// service, its own node in the ring of the coordinators, and the following of that ring. What fails is begun again. When ctx
// ends the node leaves the ring; stop ends the rest and waits for all.
func (c *Coordinator) startRouting(ctx context.Context) (stop func()) {
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	var service, others sync.WaitGroup
	service.Go(func() { c.keep(serving, "routing service", c.serveRoutes) })
	others.Go(func() {
		for _, l := range c.leaders { // who has to read first is not to be given anything
			select {
			case <-l.warm:
			case <-ctx.Done():
				return
			}
		}
		c.keep(ctx, "node of the coordinators' ring", c.beNode)
	})
	others.Go(func() { c.keep(ctx, "following of the coordinators' ring", c.followRing) })
	return func() {
		others.Wait() // a node leaves while there is a steward, which may be ours
		end()
		service.Wait()
	}
}

// keep runs something until ctx ends, and begins again when it fails. What it fails of is told once.
func (c *Coordinator) keep(ctx context.Context, what string, run func(context.Context) error) {
	told := ""
	for {
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		log := c.cfg.Log.WithError(err)
		if reason := fmt.Sprint(err); reason != told {
			told = reason
			log.Warnf("the %s has ended; it is begun again until it goes on, and shards are led without it", what)
		} else {
			log.Debugf("the %s has ended again", what)
		}
		wait(ctx, reopenPause)
	}
}

func (c *Coordinator) routerConfig() router.Config {
	return router.Config{Prefix: c.cfg.Prefix, Replicas: c.cfg.Replicas, Log: c.cfg.Log}
}

func (c *Coordinator) serveRoutes(ctx context.Context) error {
	service, err := router.NewService(c.nc, router.ServiceConfig{Config: c.routerConfig(), Name: c.share.node})
	if err != nil {
		return err
	}
	return service.Run(ctx)
}

// beNode is this coordinator's life in the ring. It acquires nothing and releases nothing: whom the ring gives a shard leads
// when he is granted its lease.
func (c *Coordinator) beNode(ctx context.Context) error {
	node, err := router.NewNode(c.nc, router.NodeConfig{
		Config: c.routerConfig(), Group: ringGroup, Name: c.share.node, TTL: c.cfg.Lease,
		Settings: router.Settings{Partitions: c.cfg.Shards, Kind: router.Instant},
	})
	if err != nil {
		return err
	}
	return node.Run(ctx)
}

// followRing tells the share every ring of the coordinators.
func (c *Coordinator) followRing(ctx context.Context) error {
	from, stop, err := c.openRings()
	if err != nil {
		return err
	}
	defer stop()
	for ctx.Err() == nil {
		r, incarnation, epoch, err := from.Ring(ctx, ringGroup)
		if err == nil && r.Partitions() != c.cfg.Shards {
			return fmt.Errorf("the group %s has %d partitions, and there are %d shards: `assent ring delete %s --force`, and it is made anew",
				ringGroup, r.Partitions(), c.cfg.Shards, ringGroup)
		}
		if err == nil {
			c.share.allot(r, version{incarnation, epoch})
			err = from.After(ctx, ringGroup, incarnation, epoch)
		}
		switch {
		case errors.Is(err, router.ErrNoGroup): // a coordinator's node makes it
			wait(ctx, campaignPause)
		case err != nil:
			return err
		}
	}
	return nil
}

// openClient follows rings by a client of the router.
func (c *Coordinator) openClient() (from rings, stop func(), err error) {
	client, err := router.NewClient(c.nc, c.routerConfig())
	if err != nil {
		return nil, nil, err
	}
	return client, client.Close, nil
}
