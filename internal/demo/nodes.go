// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/internal/children"
	"github.com/assent-tx/assent/router"
)

// nodes is a scene: banks share the accounts of a group, and transfers name accounts only. Either nodes and the coordinator are
// killed, or one node is added and another one removed.
type nodes struct {
	count     int
	rebalance bool
	faults    bool
	prefix    string

	groups *router.Groups
	router *router.Client
}

const (
	// accountsGroup is the group, and what the nodes' names begin with.
	accountsGroup = "accounts"
	// accountsPerNode is for each node that there is in the beginning.
	accountsPerNode = 100
)

func nodeName(i int) string { return fmt.Sprintf("%s-%d", accountsGroup, i+1) }

func (s *nodes) cast(c *cluster) error {
	for i := range s.count {
		s.node(c, i)
	}
	return nil
}

// node makes the process of the i-th node.
func (s *nodes) node(c *cluster, i int) *children.Process {
	return c.bank(nodeName(i), "--group", accountsGroup)
}

// set waits until the nodes have shared all partitions, and opens each account where it belongs.
func (s *nodes) set(ctx context.Context, c *cluster) (err error) {
	cfg := router.Config{Prefix: s.prefix}
	if s.groups, err = router.Open(ctx, c.nc, cfg); err != nil {
		return err
	}
	if s.router, err = router.NewClient(c.nc, cfg); err != nil {
		return err
	}
	err = c.until(ctx, func() bool { // the first node makes the group
		_, err := s.groups.Show(ctx, accountsGroup)
		return err == nil
	})
	if err == nil {
		err = s.untilSettled(ctx, func(g *router.Group) bool { return owning(g) == s.count })
	}
	if err != nil {
		return fmt.Errorf("the nodes have not shared the accounts: %w", err)
	}
	return s.open(ctx)
}

func (s *nodes) close() {
	if s.router != nil {
		s.router.Close()
	}
}

// open opens the accounts, at whoever has them.
func (s *nodes) open(ctx context.Context) error {
	cents := int64(openingBalance)
	all := s.places()
	var mu sync.Mutex
	var failed error
	each(64, len(all), func(i int) {
		have, err := bank.Ask(ctx, s.router, accountsGroup, all[i].account, bank.Request{Open: &cents})
		if err == nil && have.Balance != cents {
			err = fmt.Errorf("%s has %s before anything was moved", all[i].account, Euros(have.Balance))
		}
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		}
	})
	return failed
}

// untilSettled waits until every partition is where it is to be, and something else is so.
func (s *nodes) untilSettled(ctx context.Context, so func(*router.Group) bool) error {
	for {
		g, err := s.groups.Show(ctx, accountsGroup)
		switch {
		case err == nil && g.Moving == 0 && g.Waiting == 0 && g.Unowned == 0 && so(g):
			return nil
		case err == nil:
			err = s.router.After(ctx, accountsGroup, g.Incarnation, g.Epoch)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// owning counts the nodes that are up and own something.
func owning(g *router.Group) (n int) {
	for _, node := range g.Nodes {
		if node.State == router.StateUp && node.Partitions > 0 {
			n++
		}
	}
	return n
}

// owned is how many partitions a node owns; false if it is not in the group.
func owned(g *router.Group, name string) (partitions int, ok bool) {
	for _, node := range g.Nodes {
		if node.Node == name {
			return node.Partitions, true
		}
	}
	return 0, false
}

func (s *nodes) places() []place {
	all := make([]place, s.count*accountsPerNode)
	for i := range all {
		all[i] = place{account: accountName(i)}
	}
	return all
}

func (s *nodes) pair(random *rand.Rand) (from, to place) {
	count := s.count * accountsPerNode
	i := random.IntN(count)
	j := (i + 1 + random.IntN(count-1)) % count
	return place{account: accountName(i)}, place{account: accountName(j)}
}

func (s *nodes) script(c *cluster) *script {
	switch {
	case s.rebalance:
		return newScript(true, &change{of: s, c: c, add: s.count}, &change{of: s, c: c, remove: c.banks[0]})
	case !s.faults:
		return newScript(false)
	default:
		return c.kills(c.banks[0], c.banks[len(c.banks)-1])
	}
}

// witness asks the ring where each account belongs.
func (s *nodes) witness(ctx context.Context, c *cluster, e *evidence) error {
	g, err := s.groups.Show(ctx, accountsGroup)
	if err != nil {
		return err
	}
	if g.Moving > 0 || g.Waiting > 0 || g.Unowned > 0 {
		return fmt.Errorf("the ring is not at rest: %d partitions move, %d wait for that, %d have no owner", g.Moving, g.Waiting, g.Unowned)
	}
	if err := s.router.After(ctx, accountsGroup, g.Incarnation, g.Epoch-1); err != nil {
		return err
	}
	e.owners = make(map[string]string)
	for _, p := range s.places() {
		route, err := s.router.Route(ctx, accountsGroup, p.account)
		if err != nil {
			return err
		}
		e.owners[p.account] = route.Node
	}
	return nil
}
