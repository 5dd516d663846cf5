// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// A hook that fails, panics, or hangs past its time is called again until it succeeds; until then nothing is acted for, or
// given away.
func TestHooksFail(t *testing.T) {
	fails := map[string]func(ctx context.Context) error{
		"error": func(context.Context) error { return errors.New("not now") },
		"panic": func(context.Context) error { panic("a bug") },
		"hang":  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	}
	for name, fail := range fails {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			d := c.decide("g", "n1", "n2")
			s := newScript(t)
			var mu sync.Mutex
			calls := map[string]int{}
			s.call = func(ctx context.Context, node, hook string, m Move) error {
				mu.Lock()
				calls[node+hook]++
				n := calls[node+hook]
				mu.Unlock()
				if n <= 20 { // of all partitions together
					return fail(ctx)
				}
				return nil
			}
			brief := func(cfg *NodeConfig) { cfg.HookTimeout = 20 * time.Millisecond }
			n1 := c.node(node("n1", HandOff, s.hooks("n1"), brief)).up()
			n2 := c.node(node("n2", HandOff, s.hooks("n2"), brief)).up()
			r := d.settled("n1", "n2")
			for _, p := range []*proc{n1, n2} {
				for _, partition := range owned(r, p.cfg.Name) {
					p.enter(keyIn(r, partition))()
				}
			}
			eventually(t, "what was handed over is dropped", func() bool { return s.count("n1 drop") == 8 })
		})
	}
}

// At most maxHooks hooks run at once.
func TestHooksAreBounded(t *testing.T) {
	c := start(t)
	c.decide("g", "n1")
	s := newScript(t)
	var running, most, full atomic.Int32
	let := make(chan struct{})
	s.call = func(ctx context.Context, _, _ string, _ Move) error {
		n := running.Add(1)
		defer running.Add(-1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		if n == maxHooks && full.Add(1) == 1 {
			close(let)
		}
		select {
		case <-let:
		case <-ctx.Done():
		}
		return nil
	}
	c.node(node("n1", HandOff, s.hooks("n1"), func(cfg *NodeConfig) { cfg.Settings.Partitions = 200 })).up()
	if most.Load() != maxHooks {
		t.Errorf("%d hooks at once, want %d", most.Load(), maxHooks)
	}
}

// A hook that waits for its turn is not called when the session is lost; one that runs is told, and its success is not believed.
func TestHooksOfALostSession(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	s := newScript(t)
	lost, told := make(chan struct{}), make(chan struct{}, 100)
	var first, later atomic.Int32
	s.call = func(ctx context.Context, _, _ string, m Move) error {
		select {
		case <-lost:
			later.Add(1)
			return nil
		default:
		}
		first.Add(1)
		<-ctx.Done()
		told <- struct{}{}
		return nil // it has not noticed
	}
	p := c.node(node("n1", HandOff, s.hooks("n1"), func(cfg *NodeConfig) { cfg.Settings.Partitions = 100 }))
	eventually(t, "as many hooks run as may", func() bool { return first.Load() == maxHooks })
	d.hold()
	before := p.session()
	p.loseSession()
	for range maxHooks {
		receive(t, told, "the hooks are told")
	}
	close(lost)
	eventually(t, "it has another session", func() bool { now := p.session(); return now != "" && now != before })
	p.refuses("k", ErrNotReady, "does not name its session")
	if later.Load() != 0 || first.Load() != maxHooks {
		t.Errorf("%d hooks were called in the session that is lost, and %d after it", first.Load(), later.Load())
	}
	d.resume()
	p.up()
	if later.Load() != 100 {
		t.Errorf("%d hooks were called in the new session, want one for each of 100 partitions", later.Load())
	}
}

// A hook that never returns is said to be so, and Run ends without it.
func TestHookNeverReturns(t *testing.T) {
	c := start(t)
	c.decide("g", "n1")
	s := newScript(t)
	let := make(chan struct{})
	s.call = func(_ context.Context, _, _ string, m Move) error {
		if m.Partition == 0 {
			<-let
		}
		return nil
	}
	log := newLines()
	p := c.node(node("n1", Data, s.hooks("n1"), func(cfg *NodeConfig) { cfg.HookTimeout, cfg.Log = 10*time.Millisecond, log.logger }))
	log.await(t, "has not returned within 10ms")
	p.stop()
	err := p.wait()
	wantError(t, err, ErrNotDrained)
	close(let)
}

// moves are the stages of a hand-over at which it is called off.
func TestMoveIsCalledOff(t *testing.T) {
	for _, stage := range []string{"drain", "release", "announced"} {
		t.Run(stage, func(t *testing.T) {
			c := start(t)
			d := c.decide("g", "n1", "n2")
			s := newScript(t)
			entered, let := make(chan int, 16), make(chan struct{})
			var begun atomic.Bool
			s.call = func(_ context.Context, node, hook string, m Move) error {
				if node == "n1" && hook == "release" && stage == "release" && begun.Load() {
					entered <- m.Partition
					<-let
				}
				return nil
			}
			n1 := c.node(node("n1", HandOff, s.hooks("n1"), func(cfg *NodeConfig) { cfg.Settings.Batch = 1 })).up()
			n2 := c.node(node("n2", HandOff, s.hooks("n2"), func(cfg *NodeConfig) { cfg.Settings.Batch = 1 })).up()
			r := d.settled("n1", "n2")
			d.hold()
			begun.Store(true)
			partition := owned(r, "n1")[0]
			key := keyIn(r, partition)
			acquired, released := s.count("n1 acquire"), s.count("n1 release")
			leave := func() {}
			if stage == "drain" {
				leave = n1.enter(key)
			}
			moving := d.change(handoff.Change{Action: handoff.Pin, Node: "n2", Partition: partition})
			if moving.Since(partition) == 0 {
				t.Fatal("it does not move")
			}
			eventually(t, "n1 refuses it", func() bool { return !n1.acts(key) })
			switch stage {
			case "release":
				if got := receive(t, entered, "Release is called"); got != partition {
					t.Errorf("partition %d is released", got)
				}
			case "announced":
				eventually(t, "it is announced", func() bool {
					said, _, err := d.s.presence(t.Context(), "g", "n1")
					return err == nil && len(said.Released) == 1 && said.Released[0] == handoff.Move{Partition: partition, Since: moving.Since(partition)}
				})
			}
			n2.refuses(key, ErrWrongOwner, "")
			d.change(handoff.Change{Action: handoff.Pin, Node: "n1", Partition: partition})
			if stage == "drain" {
				n1.enter(key)() // while the other is still in hand
				leave()
				if n := s.count("n1 release") - released; n != 0 {
					t.Errorf("%d calls of Release", n)
				}
			} else {
				if stage == "release" {
					eventually(t, "n1 knows", func() bool { return n1.now.Load().record.Since(partition) == 0 })
					n1.refuses(key, ErrNotReady, "acquiring")
					close(let)
				}
				n1.enter(key)()
				if n := s.count("n1 acquire") - acquired; n != 1 {
					t.Errorf("%d calls of Acquire, want one that makes up for the Release", n)
				}
			}
			d.resume()
			d.await("the announcement counts for nothing", func(r *handoff.Record) bool { return len(r.Moving) == 0 && r.Owner(partition) == "n1" })
			n1.enter(key)()
			n2.refuses(key, ErrWrongOwner, "n1 does")
		})
	}
}

// What is in hand is waited for, before a partition is released.
func TestReleaseWaitsForWhatIsInHand(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	s := newScript(t)
	n1 := c.node(node("n1", HandOff, s.hooks("n1"))).up()
	r := d.settled("n1")
	var leaves []func()
	for partition := range r.Partitions {
		leaves = append(leaves, n1.enter(keyIn(r, partition)), n1.enter(keyIn(r, partition)))
	}
	n2 := c.node(node("n2", HandOff, s.hooks("n2"))).up()
	d.await("half of it moves", func(r *handoff.Record) bool { return len(r.Moving) == 8 })
	eventually(t, "n1 knows", func() bool { return len(n1.now.Load().record.Moving) == 8 })
	for i, leave := range leaves {
		if i%2 == 0 {
			leave()
		}
	}
	for _, m := range d.record().Moving {
		n1.refuses(keyIn(r, m.Partition), ErrWrongOwner, "is handing the key")
		n2.refuses(keyIn(r, m.Partition), ErrWrongOwner, "n1 does")
	}
	if n := s.count("n1 release"); n != 0 {
		t.Errorf("%d partitions were released while work for them is in hand", n)
	}
	for i, leave := range leaves {
		if i%2 == 1 {
			leave()
		}
	}
	d.settled("n1", "n2")
	if n := s.count("n1 release"); n != 8 {
		t.Errorf("%d partitions were released, want 8", n)
	}
}

// Without hooks everything is acquired and released at once.
func TestWithoutHooks(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	many := func(cfg *NodeConfig) { cfg.Settings.Partitions, cfg.Settings.Batch = 1024, 512 }
	n1 := c.node(node("n1", HandOff, many)).up()
	n2 := c.node(node("n2", HandOff, many)).up()
	r := d.settled("n1", "n2")
	n1.enter(keyIn(r, owned(r, "n1")[0]))()
	n2.enter(keyIn(r, owned(r, "n2")[0]))()
}
