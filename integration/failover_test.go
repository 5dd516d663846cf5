// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
)

// Several coordinators share the shards by leases, and one takes over what another one led. Nothing depends on the leases but
// how much work is done twice, and how long nobody does any: the tests are about the time, and that everybody agrees whatever
// the leases say. (Gray & Cheriton, "Leases", 1989.)

const (
	lease = 3 * time.Second
	// slack is for machines that have other things to do.
	slack = 2 * time.Second
)

// The coordinator that leads is killed under load. A transfer that begins after that commits within the lease and a second,
// also when the log is long.
func TestLeaderIsKilled(t *testing.T) {
	for _, transactions := range []int{0, 100_000} {
		t.Run(fmt.Sprint(transactions), func(t *testing.T) {
			t.Parallel()
			c := start(t, setup{})
			nodes := c.coordinators([]string{"second"})
			nodes["coordinator"] = c.leader
			leads := c.watchLeads()
			c.lengthen(transactions)
			leader := leads.until(0, "")
			p := c.probe(8)
			p.more(200)
			killed := time.Now()
			nodes[leader].kill()
			leads.until(0, leader)
			p.more(200)
			spans := p.end()
			c.within("from the kill to the first new commit", after(spans, killed), lease+time.Second+slack)
			nodes[leader].restart()
			c.transfers(20)
			if transactions == 0 {
				c.check()
			} else {
				c.checkTrimmed()
			}
		})
	}
}

// lengthen writes so many transactions into the log that have begun and ended, between participants that nobody is.
func (c *cluster) lengthen(transactions int) {
	c.t.Helper()
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	const batch = 500
	names := []string{"ghost-a", "ghost-b"}
	expires := time.Now().Add(time.Minute).UnixMilli()
	for range transactions / batch {
		records := make(map[string][]byte)
		put := func(subject string, record []byte) {
			records[subject] = append(append(records[subject], record...), '\n')
		}
		for range batch {
			tx := messages.NewID()
			for _, name := range names {
				put(messages.Subjects{}.Prepare(0, name), messages.AppendPrepare(nil, &messages.Prepare{
					Tx: tx, Participants: names, Expires: expires, Operations: []messages.Operation{{Payload: []byte(`1`)}},
				}))
				put(messages.Subjects{}.Vote(0, name), messages.AppendVote(nil, &messages.VoteRecord{Tx: tx, Vote: messages.VoteReadOnly}))
			}
		}
		for _, kind := range []func(int, string) string{messages.Subjects{}.Prepare, messages.Subjects{}.Vote} {
			for _, name := range names {
				if _, err := js.Publish(within(c.t, patience), kind(0, name), records[kind(0, name)]); err != nil {
					c.t.Fatal(err)
				}
			}
		}
	}
}

// An operator stops the coordinator that leads, under load, and no client notices: nobody is told an error, and nobody waits
// for long.
func TestLeaderIsStopped(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	nodes := c.coordinators([]string{"second"})
	nodes["coordinator"] = c.leader
	leads := c.watchLeads()
	p := c.probe(8)
	var stops, backs []time.Time
	for range 4 {
		p.more(200)
		leader := leads.until(0, "")
		stops = append(stops, time.Now())
		nodes[leader].proc().signal(t, syscall.SIGTERM)
		leads.until(0, leader)
		p.more(200)
		backs = append(backs, time.Now())
		nodes[leader].proc().await(t)
		nodes[leader].restart()
	}
	spans := p.end()
	best := patience
	for i := range stops {
		gap, transfer := longest(spans, stops[i], backs[i])
		t.Logf("hand-over %d: at most %v without a commit, and %v for one transfer", i+1, gap.Round(time.Millisecond), transfer.Round(time.Millisecond))
		best = min(best, max(gap, transfer))
	}
	c.within("the longest wait of anybody in the best of the hand-overs", best, time.Second)
	c.check()
}

// The leader is paused for longer than its lease, and another one takes over. When it wakes up it believes to lead for a
// moment: nothing comes of that. (Kleppmann, "How to do distributed locking", 2016.)
func TestLeaderIsPaused(t *testing.T) {
	t.Parallel()
	c := start(t, setup{}) // with a lease that a busy machine does not lose: else nobody may lead when somebody is to be heard
	nodes := c.coordinators([]string{"second"})
	nodes["coordinator"] = c.leader
	leads := c.watchLeads()
	l := c.load(4)
	for range 3 {
		l.more(20)
		leader := leads.until(0, "")
		nodes[leader].pause()
		leads.until(0, leader)
		l.more(20)
		c.everyoneIsHeard()
		nodes[leader].resume()
		l.more(20)
	}
	l.stop()
	c.check()
}

// everyoneIsHeard sends submissions that are refused, each once: none may go to one who does not answer.
func (c *cluster) everyoneIsHeard() {
	c.t.Helper()
	for range 20 {
		sub := messages.Submission{Tx: messages.NewID(), Operations: []messages.Operation{{Participant: "nobody"}}}
		msg, err := c.nc.Request(messages.Subjects{}.Submit(0), messages.AppendSubmission(nil, &sub), 10*time.Second)
		if err != nil || !strings.Contains(string(msg.Data), "unknown_participant") {
			c.t.Fatalf("got %v; want an answer", err)
		}
	}
}

// A coordinator that comes back under its name need not wait for the lease of the process that was killed.
func TestRestartNeedsNoLease(t *testing.T) {
	t.Parallel()
	c := start(t, setup{coordinator: []string{"-lease", "1h"}})
	for range 2 {
		c.transfers(10)
		c.leader.kill()
		c.leader.restart()
	}
	c.transfers(10)
	c.check()
}

// The leader cannot reach the server for longer than its lease.
func TestLeaderIsCutOff(t *testing.T) {
	t.Parallel()
	c := start(t, setup{coordinator: []string{"-lease", "1s"}})
	nodes := c.coordinators([]string{"second"}, "-lease", "1s")
	nodes["coordinator"] = c.leader
	leads := c.watchLeads()
	l := c.load(4)
	for range 2 {
		l.more(20)
		leader := leads.until(0, "")
		nodes[leader].link.GoDown()
		leads.until(0, leader)
		l.more(20)
		nodes[leader].link.Mend()
		l.more(20)
	}
	l.stop()
	c.check()
}

// An operator takes the lease away. The leader goes on as long as it does not know, and another one leads beside it: nothing
// comes of that either.
func TestLeaseIsReleasedByForce(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	c.coordinators([]string{"second"})
	leads := c.watchLeads()
	p := c.probe(4)
	for range 5 {
		p.more(50)
		leader := leads.until(0, "")
		eventually(t, "another one than "+leader+" leads", func() error { // who is granted it first may give it back to the one whom the ring gives it to
			if leads.of(0) != leader {
				return nil
			}
			_, err := locks.ForceRelease(within(t, patience), c.nc, "assent-leases", locks.KindLock, "shard-0")
			if err != nil && !errors.Is(err, locks.ErrNotHeld) {
				t.Fatal(err)
			}
			return errors.New("it leads yet")
		})
	}
	p.more(50)
	p.end()
	c.check()
}

// Coordinators that come and go share the shards evenly, and leave it at that.
func TestShardsAreShared(t *testing.T) {
	t.Parallel()
	args := []string{"-shards", "6", "-lease", "1s"}
	c := start(t, setup{coordinator: args})
	leads := c.watchLeads()
	leads.shared([]int{6}, "coordinator")
	p := c.probe(4)
	nodes := c.coordinators([]string{"second"}, args...)
	nodes["coordinator"] = c.leader
	leads.shared([]int{3, 3}, "coordinator", "second")
	nodes["third"] = c.coordinators([]string{"third"}, args...)["third"]
	all := []string{"coordinator", "second", "third"}
	leads.shared([]int{2, 2, 2}, all...)
	p.more(200)
	leads.atRest()
	nodes["second"].kill()
	leads.shared([]int{3, 3}, "coordinator", "third")
	nodes["second"].restart()
	leads.shared([]int{2, 2, 2}, all...)
	nodes["third"].proc().signal(t, syscall.SIGTERM)
	leads.shared([]int{3, 3}, "coordinator", "second")
	p.more(200)
	p.end()
	c.transfers(20)
	c.check()
}

// atRest fails the test when shards are handed to and fro for no reason. On a machine that is too busy to renew them leases are lost, and nodes
// are taken for dead: then it looks again, until nothing of that has happened in the time it looks at and in the one before.
func (l *leads) atRest() {
	l.c.t.Helper()
	reasons := func() int { return l.c.logged("lease is lost") + l.c.logged("a node is out") }
	before := reasons()
	l.c.outlast()
	eventually(l.c.t, "the shards stay where they are", func() error {
		now, at := reasons(), l.count()
		l.c.outlast()
		changes := l.count() - at
		switch {
		case changes == 0:
			return nil
		case reasons() == before:
			l.c.t.Fatalf("%d shards got another leader, for no reason", changes)
		}
		before = now
		return fmt.Errorf("%d shards got another leader; leases were lost or nodes out, or just before", changes)
	})
}

// handOverPoints are where one of the two sides of a hand-over dies.
var handOverPoints = map[string]bool{ // true: it is the one that takes over
	"coordinator.handover.begun":    false, // it has the lease yet
	"coordinator.handover.released": false, // it has asked for the lease to be given back
	"coordinator.handover.taken":    false, // both lead
	"coordinator.stepped.down":      false, // clients have been told, the log has not
	"coordinator.lease.granted":     true,  // it has the lease, and leads not yet
	"coordinator.shard.opened":      true,  // it has told that it leads
}

// Either side dies in the middle of a hand-over.
func TestHandOverIsCutShort(t *testing.T) {
	for point, takes := range handOverPoints {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			// A lease that a busy machine does not lose: who comes back takes its own at once.
			s := setup{coordinator: []string{"-lease", "5s"}}
			if !takes {
				s.crash = map[string]string{"coordinator": point}
			}
			c := start(t, s)
			second := c.coordinator("second", "-lease", "5s")
			if takes {
				second.start(crashAt(point)...)
			} else {
				second.start()
			}
			second.ready()
			l := c.load(4)
			l.more(20)
			c.leader.proc().signal(t, syscall.SIGTERM)
			victim := c.leader
			if takes {
				victim = second
			}
			victim.proc().await(t)
			if victim.proc().wrong() == "" && victim.proc().state.Success() {
				t.Error("it was not killed: the test shows nothing")
			}
			victim.restart()
			l.more(20)
			if !c.leader.proc().running() {
				c.leader.restart()
			}
			l.more(20)
			l.stop()
			c.check()
		})
	}
}

// Whoever is asked about a shard gives its leader's answer.
func TestAnybodyIsAsked(t *testing.T) {
	t.Parallel()
	c := start(t, setup{coordinator: []string{"-shards", "4"}})
	c.coordinators([]string{"second", "third"}, "-shards", "4")
	leads := c.watchLeads()
	leads.shared([]int{1, 1, 2}, "coordinator", "second", "third")
	c.transfers(20)
	c.settle()
	c.banks["bank-a"].kill()
	tx := c.draft(order{from: "bank-a", to: "bank-b", cents: 1, timeout: patience})
	committing := make(chan error, 1)
	go func() { committing <- tx.Commit(within(t, patience)) }()
	request := map[string]any{"tx": tx.ID()}
	eventually(t, "the transaction is open", func() error { return c.ask("tx.retry", request, new(any)) })
	for range 20 { // whoever of them answers
		var list struct {
			Open         int
			Transactions []struct{ Owed []string }
		}
		if err := c.ask("tx.list", nil, &list); err != nil || list.Open != 1 || len(list.Transactions) != 1 || len(list.Transactions[0].Owed) == 0 {
			t.Fatalf("the list is %+v, %v; want the open transaction, and who has not voted", list, err)
		}
		var shown struct{ Outcome string }
		if err := c.ask("tx.show", request, &shown); err != nil || shown.Outcome != "undecided" {
			t.Fatalf("it shows %+v, %v", shown, err)
		}
	}
	if err := c.ask("tx.abort", request, new(any)); err != nil {
		t.Error(err)
	}
	if err := <-committing; err == nil || errors.Is(err, errPending) {
		t.Errorf("it was aborted, and the client was told %v", err)
	}
	c.banks["bank-a"].restart()
	c.transfers(10)
	c.check()
}
