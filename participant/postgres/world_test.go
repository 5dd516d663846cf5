// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
)

// world is a NATS server and a coordinator.
type world struct {
	testing.TB
	server *embedded.Server
}

func newWorld(t testing.TB) *world {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	w := &world{t, server}
	c, err := coordinator.New(w.connect(), coordinator.Config{})
	must(t, err)
	w.run(c.Run)
	<-c.Ready()
	return w
}

func (w *world) connect() *nats.Conn {
	w.Helper()
	nc, err := w.server.Connect()
	must(w, err)
	w.Cleanup(nc.Close)
	return nc
}

// run runs in the background; the function that it gives stops and awaits that, and so does the end of the test.
func (w *world) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			w.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	w.Cleanup(stop)
	return stop
}

func (w *world) join(name string, s participant.Handler, concurrency int) (stop func()) {
	w.Helper()
	p, err := participant.New(w.connect(), participant.Config{Name: name, Handler: s, Concurrency: concurrency, Log: testLog()})
	must(w, err)
	stop = w.run(p.Run)
	<-p.Ready()
	return stop
}

func (w *world) client() *assent.Client {
	w.Helper()
	client, err := assent.New(w.connect(), assent.Config{})
	must(w, err)
	w.Cleanup(client.Close)
	return client
}

// transferBetween submits a transfer of one bank's account to another's.
func transferBetween(ctx context.Context, client *assent.Client, from, to string, debit, credit transfer, options ...assent.OpOption) error {
	tx := client.Begin()
	tx.Enlist(from, debit, options...)
	tx.Enlist(to, credit, options...)
	return tx.Commit(ctx)
}

// Two databases agree, and what one refuses the other undoes.
func TestTwoBanks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := newBank(t, nil), newBank(t, nil)
	w.join("one", one.store(func(cfg *Config) { cfg.Name = "one" }), 0)
	w.join("two", two.store(func(cfg *Config) { cfg.Name = "two" }), 0)
	client := w.client()
	must(t, transferBetween(t.Context(), client, "one", "two", transfer{"a", -60}, transfer{"b", 60}))
	err := transferBetween(t.Context(), client, "two", "one", transfer{"b", 60}, transfer{"a", -60})
	var aborted *assent.AbortedError
	if !errors.As(err, &aborted) || aborted.Participant != "one" {
		t.Fatalf("an overdraft: %v", err)
	}
	eventually(t, "all is applied", func() bool { return one.held()+two.held() == 0 })
	if a, b := one.balance("a"), two.balance("b"); a != 40 || b != 160 {
		t.Fatalf("balances %d and %d", a, b)
	}
}
