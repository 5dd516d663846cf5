// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, 2000, 2*time.Second)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sharded:", err)
		os.Exit(1)
	}
}

// run is the whole story, with so many accounts and half as many notes; it goes on for a while after each change.
func run(ctx context.Context, out io.Writer, accounts int, while time.Duration) (err error) {
	dir, err := os.MkdirTemp("", "sharded-")
	if err != nil {
		return err
	}
	c, err := start(dir) //nolint:contextcheck // a cluster runs until it is stopped
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, c.stop(), os.RemoveAll(dir)) }() //nolint:contextcheck // also when ctx has ended
	s := &story{cluster: c, out: out, while: while, load: &load{client: c.client, accounts: accounts, notes: accounts / 2}}
	return s.tell(ctx)
}

// story is what happens to the cluster, and what is said of it.
type story struct {
	*cluster
	out   io.Writer
	while time.Duration
	load  *load
}

func (s *story) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

func (s *story) tell(ctx context.Context) error {
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		if err := s.startNode(name); err != nil { //nolint:contextcheck // a node runs until it is stopped
			return err
		}
	}
	if err := s.settled(ctx, func(g *router.Group) bool { return sharing(g) == 3 }); err != nil {
		return err
	}
	if err := s.load.fill(ctx); err != nil {
		return err
	}
	s.say("%d keys are on node-1, node-2 and node-3", len(s.load.want)-(s.load.notes+1)/2)

	// Money moves from now on until everything has happened.
	loading, enough := context.WithCancel(ctx)
	defer enough()
	transfers := make(chan error, 1)
	go func() { transfers <- s.load.transfer(loading, 16) }()
	err := s.changes(ctx)
	enough()
	if err := errors.Join(err, <-transfers); err != nil {
		return err
	}
	total, err := s.load.check(ctx)
	if err != nil {
		return err
	}
	s.say("every key is there, with the value that it must have; the total is %d, as it was", total)
	return nil
}

// changes adds a node and takes one out, under load.
func (s *story) changes(ctx context.Context) error {
	s.wait(ctx)
	err := s.change(ctx, "node-4 is added", func() error {
		if err := s.startNode("node-4"); err != nil { //nolint:contextcheck // as above
			return err
		}
		return s.settled(ctx, func(g *router.Group) bool { return sharing(g) == 4 })
	})
	if err != nil {
		return err
	}
	s.wait(ctx)
	err = s.change(ctx, "node-1 is removed", func() error {
		if err := s.alter(ctx, router.ActionDrain, "node-1"); err != nil {
			return err
		}
		return s.settled(ctx, func(g *router.Group) bool { return sharing(g) == 3 })
	})
	if err != nil {
		return err
	}
	// It owns nothing any more, so it can go.
	if err := s.alter(ctx, router.ActionRemove, "node-1"); err != nil {
		return err
	}
	left, err := s.stopNode("node-1")
	if err != nil {
		return err
	}
	s.say("node-1 has ended; %d keys are left in its file", left)
	s.wait(ctx)
	return nil
}

// wait lets the load go on for a while.
func (s *story) wait(ctx context.Context) {
	select {
	case <-time.After(s.while):
	case <-ctx.Done():
	}
}

// change makes a change of the group, and tells what moved and what the load has done meanwhile.
func (s *story) change(ctx context.Context, what string, do func() error) error {
	before, err := s.ring(ctx)
	if err != nil {
		return err
	}
	began, done := time.Now(), s.load.now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	took, now := time.Since(began), s.load.now()
	after, err := s.ring(ctx)
	if err != nil {
		return err
	}
	plan := ring.Diff(before, after)
	s.say("%s: %d of %d partitions moved in %v; meanwhile %d transfers were committed, %d of all were tried again", what,
		len(plan.Moves), plan.Partitions, took.Round(time.Millisecond), now.committed-done.committed, now.retried-done.retried)
	for _, f := range plan.Flows() {
		s.say("  %4d from %s to %s", f.Partitions, f.From, f.To)
	}
	return nil
}

func (l *load) now() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tally
}
