// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router/internal/handoff"
)

var _ participant.Ownership = (*Node)(nil)

func txOf(n int) messages.ID { return messages.ID{6: 0x70, 8: 0x80, 14: byte(n >> 8), 15: byte(n)} }

// routes are of keys by the ring that a node goes by.
func routes(p *proc, keys ...string) []messages.Route {
	r := p.now.Load().record
	all := make([]messages.Route, len(keys))
	for i, key := range keys {
		all[i] = messages.Route{Group: "g", Key: key, Incarnation: r.Incarnation, Epoch: r.Epoch}
	}
	return all
}

// mustClaim claims keys for a branch, as they are to be had.
func mustClaim(t testing.TB, p *proc, tx int, keys ...string) {
	t.Helper()
	if wrong, err := p.Claim(txOf(tx), routes(p, keys...)); err != nil || wrong != 0 {
		t.Fatalf("claim %q: %d, %v", keys, wrong, err)
	}
}

// inHand is how much a node has in hand.
func inHand(p *proc) (n int) {
	g := p.now.Load().gates
	for i := range g.all {
		n += g.all[i].inHand()
	}
	return n
}

func wantInHand(t testing.TB, p *proc, want int) {
	t.Helper()
	if n := inHand(p); n != want {
		t.Errorf("%d in hand, want %d", n, want)
	}
}

// A branch claims all of its keys, or none, once, until it is settled.
func TestClaims(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	n1, n2 := c.node(node("n1", HandOff)).up(), c.node(node("n2", HandOff)).up()
	r := d.settled("n1", "n2")
	eventually(t, "both know", func() bool { return n1.now.Load().record.Epoch == r.Epoch && n2.now.Load().record.Epoch == r.Epoch })
	mine, yours := owned(r, "n1"), owned(r, "n2")
	a, b, other := keyIn(r, mine[0]), keyIn(r, mine[1]), keyIn(r, yours[0])
	n1.enter(a)()
	n1.enter(b)()

	mustClaim(t, n1, 1, a, b, a)
	mustClaim(t, n1, 1, a, b, a)
	wantInHand(t, n1, 3)
	mustClaim(t, n1, 2, a)
	n1.Settle(txOf(1))
	n1.Settle(txOf(1))
	n1.Settle(txOf(9))
	wantInHand(t, n1, 1)

	for name, refused := range map[string]struct {
		routes []messages.Route
		epoch  uint64
		want   string
	}{
		"another's":           {routes(n1, a, other, b), r.Epoch, fmt.Sprintf("wrong owner: n1 does not own key %q in epoch %d", other, r.Epoch)},
		"another group's":     {append(routes(n1, a), messages.Route{Group: "h", Key: b, Incarnation: r.Incarnation, Epoch: 1}), r.Epoch, "wrong owner: n1 does not own key"},
		"another incarnation": {append(routes(n1, a), messages.Route{Group: "g", Key: b, Incarnation: r.Incarnation - 1, Epoch: 99}), r.Epoch, "wrong owner: n1 does not own key"},
		"a newer ring":        {append(routes(n1, a), messages.Route{Group: "g", Key: b, Incarnation: r.Incarnation, Epoch: r.Epoch + 1}), 0, "older than the caller's"},
	} {
		epoch, err := n1.Claim(txOf(3), refused.routes)
		if epoch != refused.epoch || err == nil || !strings.Contains(err.Error(), refused.want) || (epoch == 0) != errors.Is(err, ErrNotReady) {
			t.Errorf("%s: %d, %v; want epoch %d and %q", name, epoch, err, refused.epoch, refused.want)
		}
		wantInHand(t, n1, 1)
	}
	n1.Settle(txOf(2))
	wantInHand(t, n1, 0)
	if _, err := c.prepare(node("n3", HandOff)).Claim(txOf(1), []messages.Route{{Group: "h", Key: "k", Incarnation: 1, Epoch: 1}}); !errors.Is(err, ErrNotReady) {
		t.Errorf("claimed of a node that has not begun: %v", err)
	}
}

// A claim is good also while its partition is to move, which waits for it; but not in another session, where the node may have
// lost what it had.
func TestClaimsAndMoves(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	n1 := c.node(node("n1", HandOff, s.hooks("n1"))).up()
	r := d.settled("n1")
	all := make([]string, r.Partitions)
	for p := range all {
		all[p] = keyIn(r, p)
		n1.enter(all[p])()
	}
	mustClaim(t, n1, 1, all...)
	n2 := c.node(node("n2", HandOff, s.hooks("n2"))).up()
	r = d.await("half of it moves", func(r *handoff.Record) bool { return len(r.Moving) == 8 })
	eventually(t, "n1 knows", func() bool { return len(n1.now.Load().record.Moving) == 8 })
	mustClaim(t, n1, 1, all...) // its Prepare has failed, and is tried again
	wantInHand(t, n1, r.Partitions)
	moving := keyIn(r, r.Moving[0].Partition)
	if epoch, err := n1.Claim(txOf(2), routes(n1, moving)); epoch != n1.now.Load().record.Epoch || !strings.Contains(fmt.Sprint(err), "n1 is handing over key") {
		t.Errorf("claimed anew while it moves: %d, %v", epoch, err)
	}
	if n := s.count("n1 release"); n != 0 {
		t.Errorf("%d partitions were released that a branch has claimed", n)
	}
	n1.Settle(txOf(1))
	r = d.settled("n1", "n2")
	n2.enter(moving)()

	mine := keyIn(r, owned(r, "n1")[0])
	n1.enter(mine)()
	mustClaim(t, n1, 3, mine)
	d.hold()
	n1.loseSession()
	if epoch, err := n1.Claim(txOf(3), routes(n1, mine)); epoch != 0 || !errors.Is(err, ErrNotReady) {
		t.Errorf("without a session: %d, %v", epoch, err)
	}
	wantInHand(t, n1, 1)
	s.dies.Store(true)
	d.resume()
	// If n1 has another session before anybody found out that the first had ended, it has the partition again, and acquires it once
	// what was in hand before has ended: that is this branch, of which nothing is asked any more meanwhile.
	eventually(t, "others have it, or n1 again", func() bool {
		epoch, err := n1.Claim(txOf(3), routes(n1, mine))
		return epoch != 0 || err == nil || strings.Contains(err.Error(), "acquiring")
	})
	n1.Settle(txOf(3))
	d.settled("n1", "n2")
}

// What a store holds prepared from before keeps everything, from when a participant is made until all of it is settled.
func TestRecalledBranchesHoldEverything(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	n1 := c.prepare(node("n1", HandOff, s.hooks("n1")))
	n1.Expect()
	n1.TakesPart() // before it says what it has prepared: that is to hold everything, however late it comes
	n1.run()
	n1.up()
	n2 := c.node(node("n2", HandOff, s.hooks("n2"))).up()
	moves := func() {
		t.Helper()
		r := d.record()
		if len(r.Moving) != 8 || s.count("n1 release") != 0 {
			t.Errorf("%d partitions move, and %d were released", len(r.Moving), s.count("n1 release"))
		}
		for _, m := range r.Moving {
			n1.refuses(keyIn(r, m.Partition), ErrWrongOwner, "is handing")
			n2.refuses(keyIn(r, m.Partition), ErrWrongOwner, "n1 does")
		}
	}
	d.await("half of it moves", func(r *handoff.Record) bool { return len(r.Moving) == 8 })
	eventually(t, "n1 knows", func() bool { return len(n1.now.Load().record.Moving) == 8 })
	moves()
	n1.Recall([]messages.ID{txOf(1), txOf(2)})
	moves()
	n1.Settle(txOf(1))
	n1.Settle(txOf(7))
	moves()
	n1.Settle(txOf(2))
	d.settled("n1", "n2")

	n2.Expect() // a participant that has nothing prepared
	n2.Recall(nil)
	d.change(handoff.Change{Action: handoff.Drain, Node: "n2"})
	d.await("n1 has everything", func(r *handoff.Record) bool { return len(owned(r, "n1")) == r.Partitions })
}

// A node is in no ring before its participant takes part: what is routed to it meanwhile would be refused, as nobody knows a
// participant of that name. (Found by a kill of the server while a node joined: it owned keys before it had registered.)
func TestNodeJoinsWhenItsParticipantsTakePart(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2", "n3")
	s := newScript(t)
	c.node(node("n1", HandOff, s.hooks("n1"))).up()
	n2 := c.prepare(node("n2", HandOff, s.hooks("n2")))
	n2.Expect()
	n2.Expect()
	n2.run()
	n2.TakesPart()
	eventually(t, "n2 knows the ring", func() bool { now := n2.now.Load(); return now != nil && now.record != nil })
	c.node(node("n3", HandOff, s.hooks("n3"))).up() // it comes later than n2 would
	if r := d.settled("n1", "n3"); r.Node("n2") != nil {
		t.Errorf("n2 has joined while a participant of it is still to come: %+v", r.Nodes)
	}
	n2.Recall(nil)
	n2.Recall(nil)
	n2.TakesPart()
	n2.TakesPart() // one too many changes nothing
	d.settled("n1", "n2", "n3")
}
