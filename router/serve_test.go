// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// serving is a node that answers with its name and the key.
func (c *cluster) serving(cfg NodeConfig) *proc {
	c.t.Helper()
	p := c.prepare(cfg)
	p.Serve(func(_ context.Context, key string, msg *nats.Msg) {
		if err := msg.Respond([]byte(cfg.Name + " has " + key + ": " + string(msg.Data))); err != nil {
			c.t.Error(err)
		}
	})
	p.run()
	return p
}

// Requests reach whoever owns the key, also while nodes come and go.
func TestServe(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	client, err := NewClient(c.connect(), Config{})
	must(t, err)
	t.Cleanup(client.Close)
	ask := func(key string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testPatience)
		defer cancel()
		answer, err := client.Request(ctx, "g", key, []byte("hello"))
		must(t, err)
		return string(answer.Data)
	}
	n1 := c.serving(node("n1", HandOff)).up()
	if got := ask("alice"); got != "n1 has alice: hello" {
		t.Errorf("answer %q", got)
	}
	c.serving(node("n2", HandOff, func(cfg *NodeConfig) { cfg.Subject = "somewhere.else" })).up()
	r := d.settled("n1", "n2")
	for p := range r.Partitions {
		key := keyIn(r, p)
		if got, want := ask(key), r.Owner(p)+" has "+key+": hello"; got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
	}
	n1.end()
	for p := range r.Partitions {
		if key := keyIn(r, p); ask(key) != "n2 has "+key+": hello" {
			t.Errorf("n1 has ended, and %s is not n2's", key)
		}
	}
}

// What a node that cannot serve says: whose ring it goes by, or to try again.
func TestServeRefuses(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1", "n2")
	n1 := c.serving(node("n1", HandOff)).up()
	c.serving(node("n2", HandOff)).up()
	r := d.settled("n1", "n2")
	eventually(t, "n1 knows", func() bool { return n1.now.Load().record.Epoch == r.Epoch })
	nc := c.connect()
	ask := func(header nats.Header) *nats.Msg {
		t.Helper()
		answer, err := nc.RequestMsg(&nats.Msg{Subject: n1.cfg.subject(), Header: header}, testPatience)
		must(t, err)
		return answer
	}
	mine, yours := keyIn(r, owned(r, "n1")[0]), keyIn(r, owned(r, "n2")[0])
	ring := formatRing(r.Incarnation, r.Epoch)
	if answer := ask(nats.Header{HeaderKey: {yours}, HeaderRing: {formatRing(r.Incarnation, 1)}}); answer.Header.Get(HeaderWrongOwner) != ring || len(answer.Data) > 0 {
		t.Errorf("for another's key: %+v", answer)
	}
	if answer := ask(nats.Header{HeaderKey: {yours}}); answer.Header.Get(HeaderWrongOwner) != ring {
		t.Errorf("for another's key, by no ring: %+v", answer)
	}
	if answer := ask(nats.Header{HeaderKey: {mine}, HeaderRing: {formatRing(r.Incarnation, r.Epoch+1)}}); !strings.Contains(answer.Header.Get(HeaderTryAgain), "older than the caller's") || len(answer.Data) > 0 {
		t.Errorf("by a newer ring: %+v", answer)
	}
	for name, header := range map[string]nats.Header{"no key": {HeaderRing: {ring}}, "garbage": {HeaderKey: {mine}, HeaderRing: {"1"}}, "nothing": nil} {
		if answer := ask(header); answer.Header.Get(micro.ErrorCodeHeader) != "400" || answer.Header.Get(micro.ErrorHeader) == "" {
			t.Errorf("%s: %+v", name, answer)
		}
	}
	must(t, nc.PublishMsg(&nats.Msg{Subject: n1.cfg.subject(), Header: nats.Header{HeaderKey: {yours}}})) // nobody waits for an answer
	if answer := ask(nats.Header{HeaderKey: {mine}, HeaderRing: {ring}}); string(answer.Data) != "n1 has "+mine+": " {
		t.Errorf("its own: %+v", answer)
	}
}

// A handler that panics takes nobody with it; as many run at once as may, each behind the gate of its key; and they end before
// the node does.
func TestServeIsBounded(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	p := c.prepare(node("n1", HandOff, func(cfg *NodeConfig) { cfg.Workers = 3 }))
	var running, most atomic.Int32
	let, panicked := make(chan struct{}), make(chan struct{}, 1)
	p.Serve(func(ctx context.Context, key string, msg *nats.Msg) {
		if key == "panic" {
			panicked <- struct{}{}
			panic("a bug")
		}
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-let
		if ctx.Err() != nil {
			t.Error("its context has ended while the session goes on")
		}
		_ = msg.Respond(nil)
	})
	p.run()
	p.up()
	d.settled("n1")
	nc := c.connect()
	answers := make(chan *nats.Msg, 20)
	inbox := nats.NewInbox()
	_, err := nc.Subscribe(inbox, func(msg *nats.Msg) { answers <- msg })
	must(t, err)
	must(t, nc.PublishMsg(&nats.Msg{Subject: p.cfg.subject(), Reply: inbox, Header: nats.Header{HeaderKey: {"panic"}}}))
	receive(t, panicked, "the handler panics")
	for range 10 {
		must(t, nc.PublishMsg(&nats.Msg{Subject: p.cfg.subject(), Reply: inbox, Header: nats.Header{HeaderKey: {"k"}}}))
	}
	eventually(t, "as many run as may", func() bool { return running.Load() == 3 && inHand(p) == 3 })
	p.stop()
	eventually(t, "the node goes", func() bool { return !p.acts("k") })
	close(let)
	served, refused := 0, 0
	for range 10 {
		if msg := receive(t, answers, "each is answered"); msg.Header.Get(HeaderWrongOwner)+msg.Header.Get(HeaderTryAgain) != "" {
			refused++
		} else {
			served++
		}
	}
	if served < 3 || most.Load() != 3 {
		t.Errorf("%d served and %d refused, %d at once", served, refused, most.Load())
	}
	must(t, p.wait())
	if _, err := nc.Request(p.cfg.subject(), nil, testPatience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after the end: %v", err)
	}
}

// What a handler does has a context that ends with the session.
func TestServeTellsOfALostSession(t *testing.T) {
	c := start(t)
	d := c.decide("g", "n1")
	p := c.prepare(node("n1", HandOff))
	ended := make(chan error, 1)
	began := make(chan struct{}, 1)
	p.Serve(func(ctx context.Context, _ string, _ *nats.Msg) {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
	})
	p.run()
	p.up()
	d.settled("n1")
	must(t, c.connect().PublishMsg(&nats.Msg{Subject: p.cfg.subject(), Header: nats.Header{HeaderKey: {"k"}}}))
	receive(t, began, "the handler runs")
	p.loseSession()
	wantError(t, receive(t, ended, "the handler is told"), context.Canceled)
	p.enter("k")()
}

// A subject that cannot be subscribed to is an error of Run.
func TestServeOnAClosedConnection(t *testing.T) {
	c := start(t)
	p := c.prepare(node("n1", HandOff))
	p.Serve(func(context.Context, string, *nats.Msg) {})
	p.nc.Close()
	p.run()
	wantError(t, p.wait(), nats.ErrConnectionClosed)
}
