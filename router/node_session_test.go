// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// A process that starts under the name of one that has ended has what that one had.
func TestNodeRestarts(t *testing.T) {
	for _, kind := range []Kind{Data, HandOff} {
		t.Run(string(kind), func(t *testing.T) {
			c := start(t)
			d := c.decide("g", "n1", "n2")
			s := newScript(t)
			first := c.node(node("n1", kind, s.hooks("n1"))).up()
			c.node(node("n2", kind, s.hooks("n2"))).up()
			before := owned(d.settled("n1", "n2"), "n1")
			first.end()
			if kind == HandOff {
				d.settled("n2")
			} else if r := d.record(); fmt.Sprint(owned(r, "n1")) != fmt.Sprint(before) {
				t.Errorf("%v are n1's after it has ended, %v before", owned(r, "n1"), before)
			}
			second := c.node(node("n1", kind, s.hooks("n1"))).up()
			r := d.settled("n1", "n2")
			if after := owned(r, "n1"); kind == Data && fmt.Sprint(after) != fmt.Sprint(before) || len(after) != len(before) {
				t.Errorf("%v are n1's after a restart, %v before", after, before)
			}
			for _, partition := range owned(r, "n1") {
				second.enter(keyIn(r, partition))()
				if kind == Data {
					first.refuses(keyIn(r, partition), ErrNotReady, "no session")
				} else {
					first.refuses(keyIn(r, partition), ErrWrongOwner, "n2 does")
				}
			}
		})
	}
}

// One process acts for a node at a time; another one waits, and takes over.
func TestTwoProcessesOfOneName(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	s := newScript(t)
	first := c.node(node("n1", Data, s.hooks("n1"))).up()
	r := d.settled("n1")
	log := newLines()
	second := c.prepare(node("n1", Data, s.hooks("n1"), func(cfg *NodeConfig) { cfg.Log = log.logger }))
	second.run()
	log.await(t, "another process is this node")
	second.refuses("k", ErrNotReady, "it has no session")
	first.enter("k")()
	first.end()
	second.up()
	second.enter("k")()
	if after := d.record(); after.Node("n1").Session != second.session() || after.Epoch <= r.Epoch {
		t.Errorf("%+v in epoch %d, want the second process's session %s", after.Node("n1"), after.Epoch, second.session())
	}
}

// Who loses its session acts for nothing at once, and for what it owns when the ring names its next one.
func TestSessionIsLost(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	p := c.node(node("n1", Data, s.hooks("n1"))).up()
	r := d.settled("n1")
	leave := p.enter("k") // in hand all the time
	acquired := s.count("n1 acquire")
	old := p.now.Load().term
	d.hold()
	p.loseSession()
	p.refuses("k", ErrNotReady, "no session")
	eventually(t, "it has another session", func() bool { return p.session() != "" && p.session() != old.session.ID() })
	p.refuses("k", ErrNotReady, "does not name its session")
	d.resume()
	for partition := range r.Partitions {
		if partition != r.Ring().Partition("k") {
			p.enter(keyIn(r, partition))()
		}
	}
	p.refuses("k", ErrNotReady, "acquiring") // what was in hand is of the session before
	leave()
	p.enter("k")()
	if n := s.count("n1 acquire") - acquired; n != r.Partitions {
		t.Errorf("%d calls of Acquire for %d partitions", n, r.Partitions)
	}
	select {
	case <-old.ctx.Done():
	default:
		t.Error("what was done in the lost session was not told")
	}
}

// A lock that somebody takes away by force is the end of the term, too.
func TestLockIsTakenByForce(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	p := c.node(node("n1", Data)).up()
	d.settled("n1")
	old := p.session()
	_, err := locks.ForceRelease(t.Context(), c.connect(), p.store.names.nodesBucket(), locks.KindLock, nodeLock("g", "n1"))
	must(t, err)
	eventually(t, "it acts in another session", func() bool { return p.acts("k") && p.session() != old })
}

// In kind HandOff others take over from who has lost its session, and it takes part again with another one.
func TestOthersTakeOver(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	s.dies.Store(true)
	n1, n2 := c.node(node("n1", HandOff, s.hooks("n1"))).up(), c.node(node("n2", HandOff, s.hooks("n2"))).up()
	r := d.settled("n1", "n2")
	u := work(t, r, func() []*proc { return []*proc{n1, n2} })
	for range 3 {
		before := n1.session()
		n1.loseSession()
		d.await("n1 is back", func(r *handoff.Record) bool {
			n := r.Node("n1")
			return n != nil && n.Session != before && len(owned(r, "n1")) == 8 && len(r.Moving) == 0
		})
	}
	u.end()
	if u.done.Load() == 0 {
		t.Error("nothing was done")
	}
}

// A server that is away for longer than the TTL stops every node, before anybody else can act; they go on when it is back.
func TestServerIsAway(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	fast := func(cfg *NodeConfig) { cfg.TTL = time.Second }
	n1, n2 := c.node(node("n1", Data, fast)).up(), c.node(node("n2", Data, fast)).up()
	r := d.settled("n1", "n2")
	for _, p := range []*proc{n1, n2} {
		for _, partition := range owned(r, p.cfg.Name) {
			p.enter(keyIn(r, partition))()
		}
	}
	c.down()
	for _, p := range []*proc{n1, n2} {
		eventually(t, "the session is over", func() bool { return p.now.Load().term.err() != nil }) // there may be no term any more
		for _, partition := range owned(r, p.cfg.Name) {
			p.refuses(keyIn(r, partition), ErrNotReady, "no session")
		}
	}
	c.up()
	for _, p := range []*proc{n1, n2} {
		for _, partition := range owned(r, p.cfg.Name) {
			p.enter(keyIn(r, partition))()
		}
	}
}

// A node waits for NATS, and does not take a lost connection for the end.
func TestNodeWaitsForNATS(t *testing.T) {
	c := start(t)
	p := c.prepare(node("n1", Data))
	c.down()
	p.run()
	p.refuses("k", ErrNotReady, "not read its ring")
	c.up()
	c.decide("g", "n1")
	p.up()
}

// The errors of Run say what to do.
func TestRunErrors(t *testing.T) {
	c := start(t)
	s := c.store()
	c.group(s, "g") // of kind data, with 4096 partitions
	for want, cfg := range map[string]NodeConfig{
		"kind data, NodeConfig.Settings of node n1 say handoff":    node("n1", HandOff, func(cfg *NodeConfig) { cfg.Settings.Partitions = 0 }),
		"Partitions 4096, NodeConfig.Settings of node n1 say 16":   node("n1", Data),
		"Partitions 4096, NodeConfig.Settings of node n1 say 4095": node("n1", "", func(cfg *NodeConfig) { cfg.Settings.Partitions = 4095 }),
	} {
		p := c.node(cfg)
		if err := p.wait(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "delete the group") {
			t.Errorf("got %v, want an ErrInvalid that says %q and what to do", err, want)
		}
	}
	for record, want := range map[string]error{`{"v":9}`: ErrNewerRecord, "garbage": ErrRecord} {
		c.write(s.names.recordSubject("g"), record, nil)
		if err := c.node(node("n1", "")).wait(); !errors.Is(err, want) {
			t.Errorf("with the record %s: %v, want %v", record, err, want)
		}
	}
	p := c.node(node("n1", "", func(cfg *NodeConfig) { cfg.Group = "other" }))
	c.decide("other", "n1")
	p.up()
	if err := p.Run(t.Context()); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "make another Node") {
		t.Errorf("a second Run: %v", err)
	}
	p.nc.Close()
	if err := p.wait(); !errors.Is(err, nats.ErrConnectionClosed) || !strings.Contains(err.Error(), "must outlive Run") {
		t.Errorf("Run when its connection was closed: %v", err)
	}
	if err := c.prepareOn(p.nc, node("n1", "")).Run(t.Context()); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Run on a closed connection: %v", err)
	}
}

func (c *cluster) prepareOn(nc *nats.Conn, cfg NodeConfig) *Node {
	n, err := NewNode(nc, cfg)
	must(c.t, err)
	return n
}

// A node whose context ends before it has begun returns nil.
func TestRunEndsEarly(t *testing.T) {
	c := start(t)
	p := c.prepare(node("n1", HandOff))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, p.Run(ctx))
	p = c.prepare(node("n2", HandOff))
	c.down()
	p.run()
	p.end()
}

// A group that is deleted is made anew by its nodes; nobody acts by the ring of the one before, and what is in hand of it ends first.
func TestGroupIsDeleted(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	s.dies.Store(true) // nothing is released of what was deleted
	n1, n2 := c.node(node("n1", Data, s.hooks("n1"))).up(), c.node(node("n2", Data, s.hooks("n2"))).up()
	before := d.settled("n1", "n2")
	key := keyIn(before, owned(before, "n1")[0])
	leave := n1.enter(key)
	g, err := Open(t.Context(), c.connect(), Config{})
	must(t, err)
	_, err = g.Delete(t.Context(), DeleteRequest{Group: "g", Force: true})
	must(t, err)
	after := d.await("it is made anew", func(r *handoff.Record) bool { return r.Incarnation > before.Incarnation })
	eventually(t, "n1 knows", func() bool { return n1.now.Load().record.Incarnation == after.Incarnation })
	n1.refuses(key, ErrWrongOwner, "")
	if _, err := n1.Enter(key, before.Incarnation, before.Epoch); !errors.Is(err, ErrWrongOwner) {
		t.Errorf("by the ring of the group that was deleted: %v", err)
	}
	if r := d.record(); len(r.Nodes) != 0 {
		t.Errorf("%+v are in the group while work of the one before is in hand", r.Nodes)
	}
	leave()
	r := d.settled("n1", "n2")
	for _, p := range []*proc{n1, n2} {
		for _, partition := range owned(r, p.cfg.Name) {
			p.enter(keyIn(r, partition))()
		}
	}
}

// One of other settings that takes the place of the group that was deleted ends the node.
func TestGroupIsReplaced(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	p := c.node(node("n1", Data)).up()
	d.settled("n1")
	d.hold()
	v, err := d.s.record(t.Context(), "g")
	must(t, err)
	r, err := handoff.New("g", v.record.Incarnation+1, handoff.Settings{Partitions: 8})
	must(t, err)
	raw, err := d.s.swap(t.Context(), d.s.names.recordSubject("g"), &nats.Msg{Data: r.Encode()}, v.raw)
	must(t, err)
	d.s.hint("g", r.Incarnation, r.Epoch)
	if err := p.wait(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "Partitions 8") {
		t.Errorf("Run: %v, revision %d", err, raw.revision)
	}
}

// Somebody else's word in the node's place is overwritten, also one that cannot be read.
func TestPresenceIsOverwritten(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	c.write(d.s.names.presenceSubject("g", "n1"), "garbage", nil)
	p := c.node(node("n1", HandOff)).up()
	d.settled("n1")
	c.write(d.s.names.presenceSubject("g", "n1"), `{"v":9}`, nil)
	c.node(node("n2", HandOff)).up()
	r := d.settled("n1", "n2") // n1 has announced what it released
	for _, partition := range owned(r, "n1") {
		p.enter(keyIn(r, partition))()
	}
}

// Whom nobody has heard says again that it is there.
func TestPresenceIsLost(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	d.hold()
	p := c.prepare(node("n1", HandOff))
	p.again = 50 * time.Millisecond
	var said atomic.Int32
	_, err := c.connect().Subscribe(d.s.names.presenceSubject("g", "n1"), func(*nats.Msg) { said.Add(1) })
	must(t, err)
	p.run()
	eventually(t, "it has said so", func() bool { return p.session() != "" && said.Load() >= 1 })
	c.write(d.s.names.presenceSubject("g", "n1"), "", nats.Header{"KV-Operation": {"DEL"}})
	d.resume()
	p.up()
}
