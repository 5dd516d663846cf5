// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// writes counts what is stored of the record and the presences of a test's group.
type writes struct{ records, presences atomic.Int64 }

func (c *cluster) count() *writes {
	c.t.Helper()
	w := &writes{}
	s := c.store()
	_, err := s.nc.Subscribe(s.names.allKeys(), func(msg *nats.Msg) {
		if _, node, ok := s.names.parseKey(msg.Subject); ok && node != "" {
			w.presences.Add(1)
		} else if ok {
			w.records.Add(1)
		}
	})
	must(c.t, err)
	must(c.t, s.nc.Flush())
	return w
}

// What is released at once is announced at once: one presence for a batch, however long each Release takes.
func TestABatchIsOnePresence(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	s.call = func(_ context.Context, _, hook string, m Move) error {
		if hook == "release" {
			streams.Pause(t.Context(), time.Duration(m.Partition%7)*time.Millisecond)
		}
		return nil
	}
	cfg := node("n1", HandOff, s.hooks("n1"), func(cfg *NodeConfig) { cfg.Settings.Partitions, cfg.Settings.Batch = 512, 128 })
	n1 := c.prepare(cfg)
	n1.gather = testPatience
	n1.run()
	n1.up()
	w := c.count()
	cfg.Name = "n2"
	s.hooks("n2")(&cfg)
	c.node(cfg).up()
	d.settled("n1", "n2")
	if n := w.presences.Load(); n != 2+1 { // two batches, and that n2 is there
		t.Errorf("%d presences for 256 moves in batches of 128, want 3", n)
	}
}

// A move that takes long, because of what is in hand or of its Release, holds others back for a moment only; and what is more
// than a release for none.
func TestReleasedMovesWaitForOthersOnlyAMoment(t *testing.T) {
	for _, test := range []struct {
		name   string
		gather time.Duration
		urge   func(*cluster, *proc)
	}{
		{"the moment is over", 10 * time.Millisecond, func(*cluster, *proc) {}},
		{"the process ends", testPatience, func(_ *cluster, p *proc) { p.stop() }},
		{"another session", testPatience, func(_ *cluster, p *proc) { p.loseSession() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t)
			d := c.decide("g", "n1", "n2")
			s := newScript(t)
			s.dies.Store(true)
			let, releasing := make(chan struct{}), make(chan struct{}, 100)
			s.call = func(_ context.Context, _, hook string, m Move) error {
				if hook == "release" {
					if m.Partition%2 == 0 {
						<-let
					}
					releasing <- struct{}{}
				}
				return nil
			}
			n1 := c.prepare(node("n1", HandOff, s.hooks("n1")))
			n1.gather = test.gather
			n1.run()
			r := n1.up().now.Load().record
			leave := n1.enter(keyIn(r, 1))
			first := n1.session()
			d.change(handoff.Change{Action: handoff.Add, Node: "s", Weight: 1000})
			receive(t, releasing, "a move is released")
			test.urge(c, n1)
			eventually(t, "what was released is announced", func() bool {
				p, _, err := d.s.presence(t.Context(), "g", "n1")
				return err == nil && (p.Leaving && len(p.Released) > 0 || p.Session != first || d.record().Owner(3) == "s")
			})
			leave()
			close(let)
			if test.name == "the process ends" {
				must(t, n1.wait())
			}
		})
	}
}
