// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
)

// cluster is a server with a coordinator, for one test.
func cluster(t *testing.T, cfg coordinator.Config) *nats.Conn {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := coordinator.New(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	background(t, c.Run, c.Ready())
	return nc
}

// background runs until the test ends, and fails it if run does.
func background(t *testing.T, run func(context.Context) error, ready <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(20 * time.Second):
		t.Fatal("not ready")
	}
}

// recorder is a handler that notes what it is told.
type recorder struct {
	refuse   error
	commits  chan assent.ID
	rollback chan assent.ID
}

func newRecorder() *recorder {
	return &recorder{commits: make(chan assent.ID, 1024), rollback: make(chan assent.ID, 1024)}
}

func (r *recorder) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	if r.refuse != nil {
		return 0, participant.Refuse(r.refuse)
	}
	return participant.Yes, nil
}
func (r *recorder) Commit(_ context.Context, tx assent.ID) error   { r.commits <- tx; return nil }
func (r *recorder) Rollback(_ context.Context, tx assent.ID) error { r.rollback <- tx; return nil }

// InDoubt: it holds nothing beyond its life, so it may be given keys.
func (r *recorder) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

func join(t *testing.T, nc *nats.Conn, name string, h participant.Handler) {
	t.Helper()
	p, err := participant.New(nc, participant.Config{Name: name, Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	background(t, p.Run, p.Ready())
}

func newClient(t *testing.T, nc *nats.Conn) *assent.Client {
	t.Helper()
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func TestCommitAndAbort(t *testing.T) {
	nc := cluster(t, coordinator.Config{})
	a, b, c := newRecorder(), newRecorder(), newRecorder()
	c.refuse = errors.New("the account is overdrawn")
	join(t, nc, "a", a)
	join(t, nc, "b", b)
	join(t, nc, "c", c)
	client := newClient(t, nc)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	tx := client.Begin()
	tx.Enlist("a", map[string]int{"cents": -500}, assent.Keys("account/1"))
	tx.Enlist("b", map[string]int{"cents": 500})
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := <-a.commits; got != tx.ID() {
		t.Errorf("a committed %s, want %s", got, tx.ID())
	}
	if got := <-b.commits; got != tx.ID() {
		t.Errorf("b committed %s, want %s", got, tx.ID())
	}
	if outcome, err := client.Outcome(ctx, tx.ID()); outcome != assent.Committed || err != nil {
		t.Errorf("outcome %v, %v; want committed", outcome, err)
	}

	tx = client.Begin()
	tx.Enlist("a", 1)
	tx.Enlist("c", 2)
	err := tx.Commit(ctx)
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.Participant != "c" || aborted.Reason != c.refuse.Error() {
		t.Fatalf("got %v, want an abort by c", err)
	}
	if got := <-a.rollback; got != tx.ID() {
		t.Errorf("a rolled back %s, want %s", got, tx.ID())
	}
}
