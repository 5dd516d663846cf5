// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
)

// running is a life: something that Run runs.
type running struct {
	t     testing.TB
	end   context.CancelFunc
	ended chan struct{}
	err   error
}

func run(t testing.TB, life func(context.Context) error, ready <-chan struct{}) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{t: t, end: cancel, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.err = life(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.ended
	})
	select {
	case <-ready:
	case <-r.ended:
		t.Fatalf("it ended before it was ready: %v", r.err)
	case <-time.After(testPatience):
		t.Fatal("it is not ready")
	}
	return r
}

func (r *running) wait() error {
	r.t.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-time.After(testPatience):
		r.t.Fatal("it does not end")
		return nil
	}
}

// world is a fixture with a coordinator and a client.
type world struct {
	*fixture
	assent *assent.Client
	client *Client
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{fixture: start(t)}
	c, err := coordinator.New(w.connect(), coordinator.Config{})
	must(t, err)
	run(t, c.Run, c.Ready())
	w.assent, w.client = w.newClient(w.connect())
	return w
}

func (w *world) newClient(nc *nats.Conn) (*assent.Client, *Client) {
	w.t.Helper()
	inner, err := assent.New(nc, assent.Config{})
	must(w.t, err)
	w.t.Cleanup(inner.Close)
	client, err := NewClient(inner, nc, ClientConfig{})
	must(w.t, err)
	return inner, client
}

// participate runs an instance of the participant.
func (w *world) participate(nc *nats.Conn, cfg Config) (*Participant, *running) {
	w.t.Helper()
	cfg.Log = w.log
	p, err := New(nc, cfg)
	must(w.t, err)
	return p, run(w.t, p.Run, p.Ready())
}

// many runs a function in several goroutines and waits for all.
func many(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// number reads a key as a number; what is not there is 0.
func number(ctx context.Context, tx *Tx, bucket, key string) (int, error) {
	e, err := tx.Get(ctx, bucket, key)
	if errors.Is(err, ErrKeyNotFound) {
		return 0, nil
	}
	n := 0
	for _, digit := range e.Value {
		n = 10*n + int(digit-'0')
	}
	return n, err
}
