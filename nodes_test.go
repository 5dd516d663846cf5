// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

// What stands in here for package router and its nodes is as plain as can be: who owns a key is a map, and a node is a
// participant in raw NATS that refuses what it does not own.

var errNoGroup = errors.New("no such group")

// ring is a router of the test's: the client's view of who owns which key of the group "g".
type ring struct {
	mu                 sync.Mutex
	incarnation, epoch uint64
	owners             map[string]string
	moving             map[string]bool
	changed            chan struct{}
	err                error
	closed             bool
	// asked is called with the number of each call of Routes, from 1, before it is answered.
	asked func(n int)
	// waits is told of each wait for a ring that is newer than an epoch.
	waits chan uint64
	calls int
}

func newRing(owners map[string]string) *ring {
	return &ring{incarnation: 7, epoch: 1, owners: owners, moving: map[string]bool{}, changed: make(chan struct{})}
}

func (r *ring) Routes(_ context.Context, group string, keys []string) ([]router.Route, error) {
	r.mu.Lock()
	r.calls++
	n, asked := r.calls, r.asked
	r.mu.Unlock()
	if asked != nil {
		asked(n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	if group != "g" {
		return nil, errNoGroup
	}
	var routes []router.Route
	for _, key := range keys {
		routes = append(routes, router.Route{
			Group: group, Key: key, Node: r.owners[key], Incarnation: r.incarnation, Epoch: r.epoch, Moving: r.moving[key],
		})
	}
	return routes, nil
}

func (r *ring) After(ctx context.Context, _ string, incarnation, epoch uint64) error {
	for {
		r.mu.Lock()
		newer := r.incarnation > incarnation || (r.incarnation == incarnation && r.epoch > epoch)
		changed, waits := r.changed, r.waits
		r.mu.Unlock()
		if newer {
			return nil
		}
		if waits != nil {
			waits <- epoch
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (r *ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// change makes the ring newer.
func (r *ring) change(what func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	what()
	r.epoch++
	close(r.changed)
	r.changed = make(chan struct{})
}

// nodes are the participants of a group, and the truth about who owns what.
type nodes struct {
	t  *testing.T
	nc *nats.Conn
	mu sync.Mutex
	// epoch is the nodes' ring's, and owners who owns what by it.
	epoch  uint64
	owners map[string]string
	// prepared has the operations of each branch that was voted yes for, and executed what was committed, by payload.
	prepared map[string][]messages.Operation
	executed map[string]int
	attempts map[assent.ID]int // prepares, by transaction
	// hook is called for each prepare, before it is voted on.
	hook func(tx assent.ID, node string)
}

// newNodes starts nodes, each as a participant of its name.
func newNodes(t *testing.T, nc *nats.Conn, owners map[string]string, names ...string) *nodes {
	t.Helper()
	n := &nodes{
		t: t, nc: nc, epoch: 1, owners: owners, prepared: map[string][]messages.Operation{},
		executed: map[string]int{}, attempts: map[assent.ID]int{},
	}
	for _, name := range names {
		n.join(name)
	}
	return n
}

func (n *nodes) join(name string) {
	subjects := messages.Subjects{}
	for subject, handle := range map[string]func(string, *nats.Msg){
		"assent.log.*.prepare." + name: n.prepare,
		subjects.Commits(name):         n.commit,
		subjects.Rollbacks(name):       n.rollback,
	} {
		s, err := n.nc.Subscribe(subject, func(msg *nats.Msg) { handle(name, msg) })
		must(n.t, err)
		n.t.Cleanup(func() { _ = s.Unsubscribe() })
	}
	body, err := json.Marshal(messages.RegisterRequest{Name: name})
	must(n.t, err)
	_, err = n.nc.RequestWithContext(patient(n.t), subjects.API("register"), body)
	must(n.t, err)
}

func (n *nodes) prepare(name string, msg *nats.Msg) {
	shard := 0 // these tests have one
	for line := range messages.Lines(msg.Data) {
		var p messages.Prepare
		must(n.t, new(messages.Decoder).Prepare(line, &p))
		vote := n.decide(name, &p)
		js, err := jetstream.New(n.nc)
		must(n.t, err)
		_, err = js.PublishAsync(messages.Subjects{}.Vote(shard, name), messages.AppendVote(nil, &vote))
		must(n.t, err)
	}
}

func (n *nodes) decide(name string, p *messages.Prepare) messages.VoteRecord {
	n.mu.Lock()
	hook := n.hook
	n.attempts[p.Tx]++
	n.mu.Unlock()
	if hook != nil {
		hook(p.Tx, name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, again := n.prepared[name+p.Tx.String()]; again {
		return messages.VoteRecord{Tx: p.Tx, Vote: messages.VoteYes}
	}
	for _, op := range p.Operations {
		if op.Route != nil && n.owners[op.Route.Key] != name {
			return messages.VoteRecord{Tx: p.Tx, Vote: messages.VoteNo, Held: true, Reason: op.Route.Key + " has moved", WrongOwner: n.epoch}
		}
	}
	var kept []messages.Operation
	for _, op := range p.Operations {
		op.Payload = slices.Clone(op.Payload)
		kept = append(kept, op)
	}
	n.prepared[name+p.Tx.String()] = kept
	return messages.VoteRecord{Tx: p.Tx, Vote: messages.VoteYes}
}

func (n *nodes) commit(name string, msg *nats.Msg) {
	n.outcome(name, msg, func(op *messages.Operation) { n.executed[string(op.Payload)]++ })
}

func (n *nodes) rollback(name string, msg *nats.Msg) {
	n.outcome(name, msg, func(*messages.Operation) {})
}

func (n *nodes) outcome(name string, msg *nats.Msg, apply func(*messages.Operation)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range messages.Lines(msg.Data) {
		var e messages.Effect
		must(n.t, new(messages.Decoder).Effect(line, &e))
		branch := name + e.Tx.String()
		for i := range n.prepared[branch] {
			apply(&n.prepared[branch][i])
		}
		delete(n.prepared, branch)
		must(n.t, n.nc.Publish(msg.Reply, messages.AppendDone(nil, &messages.Done{Tx: e.Tx, Vote: e.Vote})))
	}
}

// move gives a key to another node, in the nodes' eyes.
func (n *nodes) move(key, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owners[key] = to
	n.epoch++
}

// wantExecuted wants an operation to be executed so often, by all nodes together, and nothing to be held.
func (n *nodes) wantExecuted(payload string, times int) {
	n.t.Helper()
	eventually(n.t, "nothing is held any more", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.prepared) == 0
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if got := n.executed[payload]; got != times {
		n.t.Errorf("%s was executed %d times, want %d", payload, got, times)
	}
}

// hooked sets the hook of prepares.
func (n *nodes) hooked(hook func(tx assent.ID, node string)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hook = hook
}
