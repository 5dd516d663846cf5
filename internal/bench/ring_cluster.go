// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

// What there is in a run about routing, besides what the RingConfig says.
const (
	ringGroup = "bench"
	// ringNodes is how many nodes the group has. They are static: an operator put them in, and no process acts for them.
	ringNodes = 10
	// echoSubject is the yardstick's: whoever subscribed to it sends back what it gets.
	echoSubject = "bench.echo"
)

// ringCluster is a server, a routing service with a group, the yardstick's subscriber, a client of both and followers. Each has a TCP
// connection of its own.
type ringCluster struct {
	parts
	client    *nats.Conn
	followers []*router.Client
}

// startRingCluster starts everything. A part that ends by itself makes fail hear of it.
func startRingCluster(ctx context.Context, cfg *RingConfig, fail context.CancelCauseFunc) (c *ringCluster, err error) {
	c = &ringCluster{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	for _, start := range []func() error{
		func() error { return c.startServer(ctx, cfg.Dir, cfg.Log) },
		func() error { return c.startService(ctx, cfg, fail) },
		c.startEcho,
		func() (err error) {
			c.client, err = c.dial("client")
			return err
		},
		func() error { return c.createGroup(ctx) },
		func() error { return c.startFollowers(ctx, cfg) },
	} {
		if err := start(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *ringCluster) startService(ctx context.Context, cfg *RingConfig, fail context.CancelCauseFunc) (err error) {
	label(ctx, "router", func(ctx context.Context) {
		var nc *nats.Conn
		if nc, err = c.dial("router"); err != nil {
			return
		}
		var service *router.Service
		if service, err = router.NewService(nc, router.ServiceConfig{Config: router.Config{Log: cfg.Log}}); err == nil {
			err = c.background(ctx, "the routing service", service.Run, service.Ready(), fail)
		}
	})
	return err
}

// startEcho starts the yardstick's subscriber.
func (c *ringCluster) startEcho() error {
	nc, err := c.dial("echo")
	if err != nil {
		return err
	}
	if _, err := nc.Subscribe(echoSubject, func(msg *nats.Msg) {
		_ = msg.Respond(msg.Data) // who asked finds that no answer came
	}); err != nil {
		return fmt.Errorf("the yardstick: %w", err)
	}
	return nc.FlushTimeout(patience)
}

// createGroup makes the group and its nodes, in which changes take effect at once: there is nobody who could hand over.
func (c *ringCluster) createGroup(ctx context.Context) error {
	if err := c.change(ctx, &router.ChangeRequest{Action: router.ActionCreate, Kind: "instant"}); err != nil {
		return err
	}
	for i := range ringNodes {
		if err := c.change(ctx, &router.ChangeRequest{Action: router.ActionAdd, Node: ringNode(i), Weight: ringWeight}); err != nil {
			return err
		}
	}
	return nil
}

// ringWeight is the weight of a node, so large that one more moves little.
const ringWeight = 100

func ringNode(i int) string { return fmt.Sprintf("node-%d", i) }

// change asks the routing service for a change of the group.
func (c *ringCluster) change(ctx context.Context, request *router.ChangeRequest) error {
	request.Group = ringGroup
	body, err := json.Marshal(request)
	if err == nil {
		_, err = c.ask(ctx, messages.Subjects{}.API("ring.change"), body)
	}
	return err
}

// ask is a request of the client, and an error when the answer tells of one.
func (c *ringCluster) ask(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	msg, err := c.client.RequestWithContext(ctx, subject, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if message := msg.Header.Get(micro.ErrorHeader); message != "" {
		return nil, fmt.Errorf("%s: %s", subject, message)
	}
	return msg, nil
}

// startFollowers starts the followers, and lets each find a key once: from then on it hears of changes.
func (c *ringCluster) startFollowers(ctx context.Context, cfg *RingConfig) error {
	for i := range cfg.Followers {
		nc, err := c.dial(fmt.Sprintf("follower %d", i))
		if err != nil {
			return err
		}
		follower, err := router.NewClient(nc, router.Config{Log: cfg.Log})
		if err != nil {
			return err
		}
		c.closers = append(c.closers, func() error {
			follower.Close()
			return nil
		})
		if _, err := follower.Route(ctx, ringGroup, "key"); err != nil {
			return err
		}
		c.followers = append(c.followers, follower)
	}
	return nil
}
