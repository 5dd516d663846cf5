// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// cluster is a NATS server, a coordinator and the nodes, all in this process; each could be one of its own.
type cluster struct {
	dir    string
	log    *logrus.Logger
	server *embedded.Server
	conn   *nats.Conn
	client *client
	groups *router.Groups
	lead   *life // the coordinator
	nodes  map[string]*life
}

// life is something that runs until it is ended.
type life struct {
	end  context.CancelFunc
	over chan error
}

func begin(run func(context.Context) error) *life {
	ctx, end := context.WithCancel(context.Background())
	l := &life{end, make(chan error, 1)}
	go func() { l.over <- run(ctx) }()
	return l
}

func (l *life) stop() error {
	l.end()
	return <-l.over
}

func start(dir string) (c *cluster, err error) {
	c = &cluster{dir: dir, log: logrus.New(), nodes: make(map[string]*life)}
	c.log.SetLevel(logrus.ErrorLevel)
	if c.server, err = embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats")}); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *cluster) connect() (err error) {
	if c.conn, err = c.server.Connect(); err != nil {
		return err
	}
	// The coordinator decides transactions. With it runs a router.Service, which computes the next ring when nodes come and go.
	lead, err := coordinator.New(c.conn, coordinator.Config{Log: c.log})
	if err != nil {
		return err
	}
	c.lead = begin(lead.Run)
	select {
	case <-lead.Ready():
	case err := <-c.lead.over:
		c.lead = nil
		return err
	}
	if c.client, err = newClient(c.conn); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if c.groups, err = router.Open(ctx, c.conn, router.Config{}); err != nil {
		return err
	}
	_, err = c.groups.Create(ctx, group, settings()) // the first node would
	return err
}

// stop ends everything, in the order in which each still has what it needs.
func (c *cluster) stop() error {
	var errs []error
	var mu sync.Mutex
	var ending sync.WaitGroup
	for name, node := range c.nodes {
		ending.Go(func() {
			if err := node.stop(); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	ending.Wait()
	if c.client != nil {
		c.client.close()
	}
	if c.lead != nil {
		errs = append(errs, c.lead.stop())
	}
	if c.conn != nil {
		c.conn.Close()
	}
	return errors.Join(append(errs, c.server.Close())...)
}

// startNode starts a node on its file.
func (c *cluster) startNode(name string) error {
	nc, err := c.server.Connect()
	if err != nil {
		return err
	}
	c.nodes[name] = begin(func(ctx context.Context) error {
		defer nc.Close()
		return runNode(ctx, nc, name, c.dir, c.log)
	})
	return nil
}

// stopNode ends a node, and counts the keys that are in its file.
func (c *cluster) stopNode(name string) (left int, err error) {
	node := c.nodes[name]
	delete(c.nodes, name)
	if err := node.stop(); err != nil {
		return 0, err
	}
	s, err := openStore(filepath.Join(c.dir, name+".db"), tables.Durable(), group, partitions)
	if err != nil {
		return 0, err
	}
	all, err := s.all()
	return len(all), errors.Join(err, s.Close())
}

// alter changes the group, as `assent ring` does.
func (c *cluster) alter(ctx context.Context, action, node string) error {
	_, err := c.groups.Change(ctx, router.ChangeRequest{Group: group, Action: action, Node: node})
	return err
}

// ring is the ring as it is now.
func (c *cluster) ring(ctx context.Context) (*ring.Ring, error) {
	g, err := c.groups.Show(ctx, group)
	if err != nil {
		return nil, err
	}
	if err := c.client.router.After(ctx, group, g.Incarnation, g.Epoch-1); err != nil {
		return nil, err
	}
	r, _, _, err := c.client.router.Ring(ctx, group)
	return r, err
}

// patience is how long anything may take.
const patience = time.Minute

// settled waits until every partition is where it is to be, and something else is so.
func (c *cluster) settled(ctx context.Context, so func(*router.Group) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the partitions did not move in time"))
	defer cancel()
	for {
		g, err := c.groups.Show(ctx, group)
		if err == nil && g.Moving == 0 && g.Waiting == 0 && g.Unowned == 0 && so(g) {
			return nil
		}
		if err == nil {
			err = c.client.router.After(ctx, group, g.Incarnation, g.Epoch) // until it is another
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// sharing counts the nodes that own something.
func sharing(g *router.Group) (n int) {
	for _, node := range g.Nodes {
		if node.Partitions > 0 {
			n++
		}
	}
	return n
}
