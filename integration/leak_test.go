// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// A whole cluster in one process comes and goes, and leaves no goroutine behind: also when a transaction is open, and when
// a participant fails its commits at the end.
func TestNoGoroutineIsLeft(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	for range 2 {
		runCluster(t)
	}
	goleak.VerifyNone(t, ignore)
}

func runCluster(t *testing.T) {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	must(t, err)
	nc, err := server.Connect()
	must(t, err)
	leader, err := coordinator.New(nc, coordinator.Config{DrainTimeout: 100 * time.Millisecond})
	must(t, err)
	stopLeader := run(t, leader.Run, leader.Ready())
	var stops []func()
	for name, h := range map[string]participant.Handler{"good": handler{}, "bad": handler{failing: true}} {
		p, err := participant.New(nc, participant.Config{Name: name, Handler: h})
		must(t, err)
		stops = append(stops, run(t, p.Run, p.Ready()))
	}
	client, err := assent.New(nc, assent.Config{})
	must(t, err)
	for range 20 {
		tx := client.Begin()
		tx.Enlist("good", 1)
		tx.Enlist("bad", 2)
		must(t, tx.Commit(within(t, patience)))
	}
	client.Close()
	for _, stop := range stops {
		stop()
	}
	stopLeader()
	nc.Close()
	must(t, server.Close())
}

// run runs in the background; stop ends it and waits.
func run(t *testing.T, f func(context.Context) error, ready <-chan struct{}) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return func() {
		cancel()
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(patience):
			t.Fatal("has not ended")
		}
	}
}

// handler says yes, and commits or fails to.
type handler struct{ failing bool }

func (h handler) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	return participant.Yes, nil
}

func (h handler) Commit(context.Context, messages.ID) error {
	if h.failing {
		return errPending
	}
	return nil
}

func (h handler) Rollback(context.Context, messages.ID) error { return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
