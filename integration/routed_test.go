// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/router"
)

const (
	accountsGroup = "accounts"
	routedKeys    = 120
	routedOpening = 1000
	// routedPartitions is what the processes have too.
	routedPartitions = 256
)

// routed is a cluster whose banks are nodes of a group: transfers name accounts, and the accounts move from node to node.
type routed struct {
	*cluster
	groups *router.Groups
	router *router.Client
	nodes  map[string]*node

	mu      sync.Mutex
	entries []*routedEntry
}

// routedEntry is one transfer, and what its client was told.
type routedEntry struct {
	id       assent.ID
	from, to string
	cents    int64
	outcome  assent.Outcome
	err      error
}

func account(i int) string { return fmt.Sprintf("account-%03d", i) }

// startRouted brings a server, coordinators and nodes up, and opens the accounts.
func startRouted(t *testing.T, s setup, nodes ...string) *routed {
	t.Helper()
	s.banks = []string{}
	w := &routed{cluster: start(t, s), nodes: make(map[string]*node)}
	ctx := within(t, patience)
	var err error
	if w.groups, err = router.Open(ctx, w.nc, router.Config{}); err != nil {
		t.Fatal(err)
	}
	if w.router, err = router.NewClient(w.nc, router.Config{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.router.Close)
	for _, name := range nodes {
		w.node(name).start()
	}
	w.rest("the nodes share the accounts", func(g *router.Group) bool { return sharing(g) == len(nodes) })
	cents := int64(routedOpening)
	for i := range routedKeys {
		w.account(account(i), bank.Request{Open: &cents})
	}
	return w
}

// node adds a node of the group, which is not started yet.
func (w *routed) node(name string) *node {
	l := newLink(w.t, w.serverAddress)
	n := w.member(name, l, []string{"accounts", "-url", l.URL(), "-name", name, "-ledger", w.ledger(name)})
	w.nodes[name] = n
	return n
}

// account asks whoever has an account for it.
func (w *routed) account(name string, request bank.Request) bank.Account {
	w.t.Helper()
	have, err := bank.Ask(within(w.t, patience), w.router, accountsGroup, name, request)
	if err != nil {
		w.t.Fatal(err)
	}
	return have
}

// group is what is stored of the group.
func (w *routed) group() (*router.Group, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return w.groups.Show(ctx, accountsGroup)
}

// rest waits until every partition is where it is to be, and something else is so.
func (w *routed) rest(what string, so func(*router.Group) bool) {
	w.t.Helper()
	eventually(w.t, what, func() error {
		g, err := w.group()
		switch {
		case err != nil:
			return err
		case g.Moving > 0 || g.Waiting > 0 || g.Unowned > 0 || !so(g):
			return fmt.Errorf("%d partitions move, %d wait, %d are nobody's; the nodes are %+v", g.Moving, g.Waiting, g.Unowned, g.Nodes)
		}
		return nil
	})
}

// sharing counts the nodes that are up and own something.
func sharing(g *router.Group) (n int) {
	for i := range g.Nodes {
		if g.Nodes[i].State == router.StateUp && g.Nodes[i].Partitions > 0 {
			n++
		}
	}
	return n
}

// stateOf is a node's state; "" when it is not in the group.
func stateOf(g *router.Group, name string) string {
	for i := range g.Nodes {
		if g.Nodes[i].Node == name {
			return g.Nodes[i].State
		}
	}
	return ""
}

// becomes waits until something is so of the group.
func (w *routed) becomes(what string, so func(*router.Group) bool) {
	w.t.Helper()
	eventually(w.t, what, func() error {
		g, err := w.group()
		if err == nil && !so(g) {
			err = fmt.Errorf("the nodes are %+v", g.Nodes)
		}
		return err
	})
}

// change has an operator change the group; it is done when it is stored.
func (w *routed) change(action, name string) {
	w.t.Helper()
	eventually(w.t, action+" "+name, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := w.groups.Change(ctx, router.ChangeRequest{Group: accountsGroup, Action: action, Node: name})
		return err
	})
}

// transfer makes one transfer by key, and notes what its client was told.
func (w *routed) transfer(r *rand.Rand) *routedEntry {
	from := r.IntN(routedKeys)
	to := (from + 1 + r.IntN(routedKeys-1)) % routedKeys
	e := &routedEntry{from: account(from), to: account(to), cents: 1 + r.Int64N(5)}
	tx := w.client.Begin(assent.WithTimeout(10 * time.Second))
	e.id = tx.ID()
	tx.EnlistKey(accountsGroup, e.from, bank.Entry{Account: e.from, Cents: -e.cents})
	tx.EnlistKey(accountsGroup, e.to, bank.Entry{Account: e.to, Cents: e.cents})
	switch e.err = tx.Commit(context.Background()); {
	case e.err == nil:
		e.outcome = assent.Committed
	case errors.Is(e.err, assent.ErrAborted):
		e.outcome = assent.Aborted
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries = append(w.entries, e)
	return e
}

// routedLoad is transfers that go on until stop.
type routedLoad struct {
	w         *routed
	workers   sync.WaitGroup
	stopped   atomic.Bool
	committed atomic.Int64
}

func (w *routed) routedLoad(workers int) *routedLoad {
	l := &routedLoad{w: w}
	w.endWithTest(&l.workers, func() { l.stopped.Store(true) })
	for i := range workers {
		r := rand.New(rand.NewPCG(w.seed, uint64(i)+1))
		l.workers.Go(func() {
			for !l.stopped.Load() {
				if w.transfer(r).outcome == assent.Committed {
					l.committed.Add(1)
				}
			}
		})
	}
	return l
}

// more waits until n more transfers have committed.
func (l *routedLoad) more(n int64) {
	l.w.t.Helper()
	want := l.committed.Load() + n
	eventually(l.w.t, fmt.Sprintf("%d more transfers", n), func() error {
		if done := l.committed.Load(); done < want {
			return fmt.Errorf("%d are left", want-done)
		}
		return nil
	})
}

func (l *routedLoad) stop() {
	l.stopped.Store(true)
	l.workers.Wait()
}
