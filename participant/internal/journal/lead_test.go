// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"testing"
	"time"
)

// lead is an instance that stands by and works.
type lead struct {
	working chan *Journal
	ended   chan error
	end     context.CancelFunc
}

func (f *fixture) lead(owner string, ttl time.Duration, work func(ctx context.Context) error) *lead {
	ctx, cancel := context.WithCancel(f.ctx())
	l := &lead{make(chan *Journal, 8), make(chan error, 1), cancel}
	nc := f.js("").Conn()
	go func() {
		l.ended <- Lead(ctx, nc, Config{Name: "kv"}, LeaseConfig{TTL: ttl, Owner: owner}, func(ctx context.Context, j *Journal) error {
			l.working <- j
			return work(ctx)
		})
	}()
	f.t.Cleanup(func() {
		cancel()
		if err := <-l.ended; err != nil {
			f.t.Error(err)
		}
	})
	return l
}

func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// One works, the other stands by; when the one ends, the other works, with what was open.
func TestLead(t *testing.T) {
	f := start(t)
	one := f.lead("", time.Hour, untilEnd)
	j := <-one.working
	e := entry(id(1), "{}")
	must(t, j.Append(f.ctx(), e))
	two := f.lead("", time.Hour, untilEnd)
	for range 20 {
		must(t, j.Prove(f.ctx()))
	}
	if len(two.working) > 0 {
		t.Fatal("two work at once")
	}
	one.end()
	must(t, <-one.ended)
	one.ended <- nil
	next := <-two.working
	wantOpen(t, next, e)
	// One that takes over without standing by shuts it out; it stands by again, and takes over in turn.
	other := f.take(f.js(""), Config{})
	if err := next.Prove(f.ctx()); !errors.Is(err, ErrSuperseded) {
		t.Errorf("superseded: %v", err)
	}
	again := <-two.working
	wantOpen(t, again, e)
	if err := other.Prove(f.ctx()); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the other one: %v", err)
	}
}

// The error of what is done ends it.
func TestLeadFails(t *testing.T) {
	f := start(t)
	broken := errors.New("broken")
	l := f.lead("", time.Hour, func(context.Context) error { return broken })
	if err := <-l.ended; !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	l.ended <- nil
	if err := Lead(f.ctx(), f.js("").Conn(), Config{Name: "a b"}, LeaseConfig{TTL: time.Hour}, nil); err == nil {
		t.Error("a bad name is taken")
	}
}

// Who is started again under the same name takes its own lease back at once, and not that of others.
func TestLeadAgain(t *testing.T) {
	f := start(t)
	release := make(chan struct{})
	dead := f.lead("me", time.Hour, func(context.Context) error {
		<-release // it never gives anything back
		return nil
	})
	t.Cleanup(func() { close(release) })
	<-dead.working
	<-f.lead("me", time.Hour, untilEnd).working
}
