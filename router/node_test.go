// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

func TestNodeConfig(t *testing.T) {
	c := start(t)
	nc := c.connect()
	for want, change := range map[string]func(*NodeConfig){
		"Prefix":            func(cfg *NodeConfig) { cfg.Prefix = "a b" },
		"the group":         func(cfg *NodeConfig) { cfg.Group = "" },
		"the node":          func(cfg *NodeConfig) { cfg.Name = "a.b" },
		"Weight -1":         func(cfg *NodeConfig) { cfg.Weight = -1 },
		"Weight 1001":       func(cfg *NodeConfig) { cfg.Weight = 1001 },
		"TTL 999ms":         func(cfg *NodeConfig) { cfg.TTL = 999 * time.Millisecond },
		"TTL 1h0m0.001s":    func(cfg *NodeConfig) { cfg.TTL = time.Hour + time.Millisecond },
		"HookTimeout":       func(cfg *NodeConfig) { cfg.HookTimeout = -1 },
		"DrainTimeout":      func(cfg *NodeConfig) { cfg.DrainTimeout = -1 },
		"Workers -1":        func(cfg *NodeConfig) { cfg.Workers = -1 },
		"Workers 4097":      func(cfg *NodeConfig) { cfg.Workers = 4097 },
		"partitions 70000":  func(cfg *NodeConfig) { cfg.Settings.Partitions = 70_000 },
		`kind "none"`:       func(cfg *NodeConfig) { cfg.Settings.Kind = "none" },
		`zone "a b"`:        func(cfg *NodeConfig) { cfg.Zone = "a b" },
		`subject "a.*"`:     func(cfg *NodeConfig) { cfg.Subject = "a.*" },
		"batch 100000":      func(cfg *NodeConfig) { cfg.Settings.Batch = 100_000 },
		"grace 172800000 m": func(cfg *NodeConfig) { cfg.Settings.Grace = 48 * time.Hour },
	} {
		cfg := node("n1", HandOff, change)
		if _, err := NewNode(nc, cfg); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an ErrInvalid that names %s", err, want)
		}
	}
	n, err := NewNode(nc, NodeConfig{Group: "g", Name: "n1"})
	must(t, err)
	if cfg := n.cfg; cfg.Weight != 1 || cfg.TTL != 5*time.Second || cfg.HookTimeout != 30*time.Second || cfg.DrainTimeout != 25*time.Second || cfg.Workers != 64 {
		t.Errorf("defaults %+v", cfg)
	}
}

// A node makes its group, joins, acquires what it owns, and then acts for it; for nothing before.
func TestNodeJoins(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	d.hold()
	s, let := newScript(t), make(chan struct{})
	s.call = func(ctx context.Context, _, hook string, m Move) error {
		if hook == "acquire" && m.Partition == 3 {
			select {
			case <-let:
			case <-ctx.Done():
			}
		}
		return ctx.Err()
	}
	p := c.prepare(node("n1", HandOff, s.hooks("n1")))
	p.refuses("k", ErrNotReady, "has not read its ring yet")
	p.run()
	eventually(t, "it says that it is there", func() bool {
		said, _, err := d.s.presence(t.Context(), "g", "n1")
		return err == nil && said.Session != "" && said.Incarnation > 0 && said.Weight == 1
	})
	p.refuses("k", ErrWrongOwner, "another node or nobody does, in epoch 1")
	d.resume()
	r := d.settled("n1")
	for partition := range r.Partitions {
		if partition != 3 {
			p.enter(keyIn(r, partition))()
		}
	}
	p.refuses(keyIn(r, 3), ErrNotReady, "acquiring the partition 3")
	select {
	case <-p.Ready():
		t.Error("ready before everything was acquired")
	default:
	}
	close(let)
	p.up()
	p.enter(keyIn(r, 3))()
	if n := s.count("n1 acquire"); n != r.Partitions {
		t.Errorf("%d calls of Acquire for %d partitions", n, r.Partitions)
	}
}

// What a caller has seen of the ring counts.
func TestEnterByARing(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	p := c.node(node("n1", HandOff)).up()
	r := d.settled("n1")
	eventually(t, "it knows the newest ring", func() bool { return p.now.Load().record.Epoch == r.Epoch })
	for _, ring := range [][2]uint64{{0, 0}, {r.Incarnation, 1}, {r.Incarnation, r.Epoch}} {
		leave, err := p.Enter("k", ring[0], ring[1])
		must(t, err)
		leave()
	}
	_, err := p.Enter("k", r.Incarnation-1, r.Epoch)
	var wrong *WrongOwnerError
	if !errors.As(err, &wrong) || wrong.Epoch != r.Epoch || wrong.Incarnation != r.Incarnation || wrong.Key != "k" || wrong.Node != "n1" || wrong.Group != "g" {
		t.Errorf("by a ring of an earlier incarnation: %v", err)
	}
	reads := p.now.Load()
	for _, ring := range [][2]uint64{{r.Incarnation, r.Epoch + 1}, {r.Incarnation + 1, 1}} {
		if _, err := p.Enter("k", ring[0], ring[1]); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), "older than the caller's") {
			t.Errorf("by a ring that is not known yet: %v", err)
		}
	}
	if p.now.Load() != reads {
		t.Error("a caller's word is believed")
	}
	// It is a reason to read: nobody hints at this record.
	v, err := d.s.record(t.Context(), "g")
	must(t, err)
	next := nextOf(t, v.record)
	_, err = d.s.swap(t.Context(), d.s.names.recordSubject("g"), &nats.Msg{Data: next.Encode()}, v.raw)
	must(t, err)
	eventually(t, "it has read the ring", func() bool {
		leave, err := p.Enter("k", next.Incarnation, next.Epoch)
		if err == nil {
			leave()
		}
		return err == nil
	})
}

func TestLeaveTwice(t *testing.T) {
	c := start(t)
	c.decide("g", "n1")
	p := c.node(node("n1", HandOff)).up()
	leave, err := p.Enter("k", 0, 0)
	must(t, err)
	leave()
	defer func() {
		if reason := recover(); !strings.Contains(fmt.Sprint(reason), "more often") {
			t.Errorf("recovered %v", reason)
		}
		p.enter("k")() // and no harm was done
	}()
	leave()
}

// user does work on random keys at whatever node lets it, and fails the test when two of them are in one partition.
type user struct {
	t      testing.TB
	inside [16]atomic.Int32
	done   atomic.Int64
	stop   context.CancelFunc
	wait   sync.WaitGroup
}

func work(t testing.TB, r *handoff.Record, nodes func() []*proc) *user {
	ctx, cancel := context.WithCancel(context.Background())
	u := &user{t: t, stop: cancel}
	for partition := range r.Partitions {
		key := keyIn(r, partition)
		u.wait.Go(func() {
			for ctx.Err() == nil {
				for i, p := range nodes() {
					if leave, err := p.Enter(key, 0, 0); err == nil {
						if before := u.inside[partition].Swap(int32(i + 1)); before != 0 && before != int32(i+1) {
							t.Errorf("two nodes act for partition %d", partition)
						}
						u.done.Add(1)
						u.inside[partition].Store(0)
						leave()
					}
				}
				streams.Pause(ctx, 100*time.Microsecond)
			}
		})
	}
	t.Cleanup(u.end)
	return u
}

func (u *user) end() {
	u.stop()
	u.wait.Wait()
}

// Nodes come and go, and no two of them act for one partition; each partition is released before it is acquired by another.
func TestNodesComeAndGo(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2", "n3")
	s := newScript(t)
	n1 := c.node(node("n1", HandOff, s.hooks("n1"))).up()
	r := d.settled("n1")
	n2, n3 := c.prepare(node("n2", HandOff, s.hooks("n2"))), c.prepare(node("n3", HandOff, s.hooks("n3")))
	u := work(t, r, func() []*proc { return []*proc{n1, n2, n3} })
	n2.run()
	n2.up()
	d.settled("n1", "n2")
	n3.run()
	n3.up()
	r = d.settled("n1", "n2", "n3")
	for _, p := range []*proc{n1, n2, n3} {
		if n := len(owned(r, p.cfg.Name)); n < 5 || n > 6 {
			t.Errorf("%s owns %d of 16 partitions", p.cfg.Name, n)
		}
		for _, partition := range owned(r, p.cfg.Name) {
			p.enter(keyIn(r, partition))()
		}
	}
	n1.end()
	r = d.settled("n2", "n3")
	for _, partition := range owned(r, "n2") {
		n2.enter(keyIn(r, partition))()
		n3.refuses(keyIn(r, partition), ErrWrongOwner, "n2 does")
	}
	eventually(t, "what was handed over is dropped", func() bool { return s.count("n1 drop") >= s.count("n1 release")-8 })
	if said, stored, err := d.s.presence(t.Context(), "g", "n1"); err != nil || !said.Leaving && !stored.deleted {
		t.Errorf("the presence of who has left is %+v, %v", said, err)
	}
	n2.end()
	d.settled("n3")
	u.end()
	if u.done.Load() == 0 {
		t.Error("nothing was done")
	}
	n3.end() // to nobody
}
