// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// Coordinators share the shards by a ring. What it says is a wish, so these tests are about who leads, how much moves, and how
// long clients wait; and that nothing is lost whatever becomes of the ring.

// Coordinators come, stop and are killed under load. Each shard is led by the one that the ring gives it to; only the share of
// the one that comes or goes moves, and once. Nobody waits as long for a hand-over as for a leader that is dead.
func TestOnlyTheShareMoves(t *testing.T) {
	for _, shards := range []int{8, 64} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			if shards > 8 && testing.Short() {
				t.Skip("four times 64 leaders are for the long run: -short was given")
			}
			t.Parallel()
			// A lease that a busy machine does not lose.
			args := []string{"-shards", fmt.Sprint(shards), "-lease", "5s"}
			c := start(t, setup{coordinator: args})
			f := &fleet{cluster: c, leads: c.watchLeads(), nodes: map[string]*node{"coordinator": c.leader}}
			f.coordinator("second", args...).start()
			f.coordinator("third", args...).start()
			f.asTheRing()
			p := c.probe(8)
			p.more(200)

			joined := f.moves(func() { f.coordinator("fourth", args...).start() })
			joined.are(t, func(_, to string) bool { return to == "fourth" })
			p.more(200)
			stopped := f.moves(func() { f.stop("second") })
			stopped.are(t, func(from, _ string) bool { return from == "second" })
			p.more(200)
			killed := f.moves(func() { f.kill("third") })
			killed.are(t, func(from, _ string) bool { return from == "third" })
			p.more(200)

			spans := p.end()
			dead := killed.wait(spans)
			for what, m := range map[string]*moves{"who comes": joined, "who stops": stopped} {
				switch planned := m.wait(spans); {
				case m.lost: // on a machine so busy that a lease is lost, shards move as from the dead, too
					t.Logf("at most %v for one transfer with %s, when leases were lost", planned.Round(time.Millisecond), what)
				case planned >= dead:
					t.Errorf("a client waited %v for %s, and %v for one that was killed", planned, what, dead)
				default:
					t.Logf("at most %v for one transfer with %s, %v with one that was killed", planned.Round(time.Millisecond), what, dead.Round(time.Millisecond))
				}
			}
			c.transfers(20)
			c.check()
		})
	}
}

// fleet is coordinators that share.
type fleet struct {
	*cluster
	leads *leads
	nodes map[string]*node // that live
	rings *router.Client
}

// coordinator adds one.
func (f *fleet) coordinator(name string, args ...string) *node {
	f.nodes[name] = f.cluster.coordinator(name, args...)
	return f.nodes[name]
}

func (f *fleet) stop(name string) {
	f.nodes[name].proc().signal(f.t, syscall.SIGTERM)
	f.nodes[name].proc().await(f.t)
	delete(f.nodes, name)
}

func (f *fleet) kill(name string) {
	f.nodes[name].kill()
	delete(f.nodes, name)
}

// ring is the coordinators' ring of the moment.
func (f *fleet) ring() (*ring.Ring, error) {
	f.t.Helper()
	if f.rings == nil {
		var err error
		if f.rings, err = router.NewClient(f.nc, router.Config{}); err != nil {
			f.t.Fatal(err)
		}
		f.t.Cleanup(f.rings.Close)
	}
	r, _, _, err := f.rings.Ring(within(f.t, patience), "coordinators")
	return r, err
}

// asTheRing waits until the ring is of those who live, and each leads what it gives to him. It gives who leads what.
func (f *fleet) asTheRing() (leaders []string) {
	f.t.Helper()
	eventually(f.t, fmt.Sprintf("the shards are led by %v as the ring says", slices.Sorted(maps.Keys(f.nodes))), func() error {
		r, err := f.ring()
		if err != nil {
			return err
		}
		leaders = nil
		if b := r.Balance(); len(b.Nodes) != len(f.nodes) || b.Unowned > 0 {
			return fmt.Errorf("the ring is %+v", b)
		}
		for shard := range r.Partitions() {
			owner, leader := r.OwnerOf(shard), f.leads.of(shard)
			if f.nodes[owner] == nil || owner != leader {
				return fmt.Errorf("shard %d is led by %q, and the ring gives it to %q", shard, leader, owner)
			}
			leaders = append(leaders, leader)
		}
		return nil
	})
	counts := make(map[string]int)
	for _, leader := range leaders {
		counts[leader]++
	}
	for name := range f.nodes {
		if n := counts[name]; n < len(leaders)/len(f.nodes) || n > (len(leaders)+len(f.nodes)-1)/len(f.nodes) {
			f.t.Fatalf("of %d shards and %d coordinators %s leads %d", len(leaders), len(f.nodes), name, n)
		}
	}
	return leaders
}

// moves is what moved while something happened.
type moves struct {
	began, ended  time.Time
	before, after []string
	steps         map[int]int // how often each shard got another leader
	lost          bool        // a coordinator was too slow to renew its leases, so that more may have moved
}

func (f *fleet) moves(what func()) *moves {
	f.t.Helper()
	m := &moves{before: f.asTheRing(), began: time.Now()}
	steps, lost := f.leads.stepsOf(), f.lostLeases()
	what()
	m.after = f.asTheRing()
	m.ended, m.steps, m.lost = time.Now(), f.leads.stepsOf(), f.lostLeases() > lost
	for shard, before := range steps {
		m.steps[shard] -= before
	}
	return m
}

// lostLeases counts how often anybody lost a lease that he wanted to keep.
func (f *fleet) lostLeases() (times int) {
	f.t.Helper()
	return f.logged("lease is lost")
}

// are checks that what moved is of a kind, that something did, and that nothing else got another leader even for a moment. Each
// moves once; on a busy machine, whose coordinators hear of each other late, a shard may be led by the next in the queue before
// its owner leads it, and no oftener.
func (m *moves) are(t *testing.T, allowed func(from, to string) bool) {
	t.Helper()
	moved, all := 0, 0
	for shard, from := range m.before {
		to, steps := m.after[shard], m.steps[shard]
		all += steps
		if to != from {
			moved++
			if !allowed(from, to) {
				t.Errorf("shard %d went from %s to %s", shard, from, to)
			}
			steps-- // and one more
		}
		if !m.lost && steps > 0 && (to == from || steps > 1) {
			t.Errorf("shard %d went from %s to %s in %d steps", shard, from, to, m.steps[shard])
		}
	}
	if moved == 0 {
		t.Error("nothing moved")
	}
	t.Logf("%d of %d shards moved in %v and %d steps; leases were lost meanwhile: %v",
		moved, len(m.before), m.ended.Sub(m.began).Round(time.Millisecond), all, m.lost)
}

// wait is the longest that one transfer took while it happened.
func (m *moves) wait(spans []span) time.Duration {
	_, transfer := longest(spans, m.began, m.ended)
	return transfer
}

// There is no ring to be had: somebody has taken its bucket away, or its settings make it useless. Coordinators lead and take over
// as ever; when the ring is there again they share.
func TestNoRingIsNeeded(t *testing.T) {
	t.Parallel()
	args := []string{"-shards", "4", "-lease", "1s"}
	c := start(t, setup{coordinator: args, before: (*cluster).spoilRings})
	f := &fleet{cluster: c, leads: c.watchLeads(), nodes: map[string]*node{"coordinator": c.leader}}
	f.coordinator("second", args...).start()
	f.nodes["second"].ready()
	f.leads.shared([]int{0, 4}, "coordinator", "second")
	p := c.probe(4)
	p.more(50)
	f.stop("coordinator")
	f.leads.until(0, "coordinator")
	p.more(50)
	f.coordinator("third", args...).start()
	f.nodes["third"].ready()
	leader := f.leads.of(0)
	f.kill(leader)
	f.leads.until(0, leader)
	p.more(50)
	f.coordinator("fourth", args...).start()
	c.deleteStream("KV_assent-rings")
	f.asTheRing() // it is made anew
	c.deleteStream("KV_assent-rings")
	c.deleteStream("KV_assent-nodes-0")
	p.more(50)
	f.asTheRing()
	p.end()
	c.check()
}

// spoilRings makes the stream of the rings so that no ring can be kept in it.
func (c *cluster) spoilRings() {
	c.t.Helper()
	js := c.jetStream()
	_, err := js.CreateStream(within(c.t, patience), jetstream.StreamConfig{Name: "KV_assent-rings", Subjects: []string{"$KV.assent-rings.>"}, MaxAge: time.Hour})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) deleteStream(name string) {
	c.t.Helper()
	if err := c.jetStream().DeleteStream(within(c.t, patience), name); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) jetStream() jetstream.JetStream {
	c.t.Helper()
	nc, err := nats.Connect("nats://" + c.serverAddress())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// logged counts how often anybody has logged something.
func (c *cluster) logged(text string) (times int) {
	c.t.Helper()
	for _, n := range c.nodes {
		data, err := os.ReadFile(n.log)
		if err != nil {
			c.t.Fatal(err)
		}
		times += strings.Count(string(data), text)
	}
	return times
}
