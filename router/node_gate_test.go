// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

// TestGateProperty: one after the other, a gate lets in who comes while it is open and nobody else, and tells of the last
// one who leaves after it was shut, once.
func TestGateProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		told := 0
		g := newGates(1, 2, func(_ *gates, p int) {
			if p != 1 {
				t.Fatalf("told of gate %d", p)
			}
			told++
		})
		one, open, inHand := &g.all[1], false, 0
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if one.clear() != (!open && inHand == 0) || one.inHand() != inHand || !g.all[0].clear() {
					t.Fatalf("clear %v, %d in hand; it is open: %v, and %d are in hand", one.clear(), one.inHand(), open, inHand)
				}
			},
			"enter": func(t *rapid.T) {
				if one.enter() != open {
					t.Fatalf("entered: %v, open: %v", !open, open)
				}
				if open {
					inHand++
				}
			},
			"leave": func(t *rapid.T) {
				told = 0
				if inHand == 0 {
					defer func() {
						if recover() == nil {
							t.Fatal("more have left than had entered")
						}
					}()
				} else {
					inHand--
				}
				one.leave()
				if want := !open && inHand == 0; (told == 1) != want {
					t.Fatalf("told %d times; open %v, %d in hand", told, open, inHand)
				}
			},
			"open": func(*rapid.T) { one.open(); open = true },
			"shut": func(*rapid.T) { one.shut(); open = false },
		})
	})
}

// At once: nobody is behind a gate that is shut and clear, and the last one to leave is never missed.
func TestGateAtOnce(t *testing.T) {
	const rounds = 300
	last := make(chan struct{}, 1)
	g := newGates(1, 1, func(*gates, int) {
		select {
		case last <- struct{}{}:
		default:
		}
	})
	one := &g.all[0]
	var owner atomic.Bool // who shut the gate has what is behind it
	var stop atomic.Bool
	var running sync.WaitGroup
	var entered atomic.Int64
	for range 4 {
		running.Go(func() {
			for !stop.Load() {
				if one.enter() {
					if owner.Load() {
						t.Error("entered a gate that is shut")
					}
					entered.Add(1)
					one.leave()
				}
				runtime.Gosched()
			}
		})
	}
	for range rounds {
		before := entered.Load()
		owner.Store(false)
		one.open()
		for entered.Load() == before { // somebody was in
			runtime.Gosched()
		}
		one.shut()
		for !one.clear() { // it may be told of the time before, as a node is
			<-last
		}
		owner.Store(true)
		if !one.clear() {
			t.Fatal("somebody is behind a gate whose last one has left")
		}
	}
	stop.Store(true)
	running.Wait()
}

// BenchmarkEnter is what Enter and leave cost a request.
func BenchmarkEnter(b *testing.B) {
	c := start(b)
	d := c.decide("g", "n1")
	p := c.node(NodeConfig{Group: "g", Name: "n1"}).up()
	r := d.record()
	keys := make([]string, 1024)
	for i := range keys {
		keys[i] = fmt.Sprint("account/", i)
	}
	enter := func(b *testing.B, i int) {
		leave, err := p.Enter(keys[i%len(keys)], r.Incarnation, 2)
		if err != nil {
			b.Fatal(err)
		}
		leave()
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			enter(b, i)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				enter(b, i)
			}
		})
	})
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Enter("k", r.Incarnation-1, 1); err == nil {
				b.Fatal("entered")
			}
		}
	})
}
