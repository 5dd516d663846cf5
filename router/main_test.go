// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPatience bounds the waiting for what must happen: much longer than it takes.
const testPatience = time.Minute

// cluster is a server for one test.
type cluster struct {
	t   testing.TB
	dir string
	url string
	srv *embedded.Server

	looking *nats.Conn
}

func start(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), url: "127.0.0.1:0"}
	c.up()
	t.Cleanup(func() { _ = c.srv.Close() })
	return c
}

// up starts the server, again where it was before.
func (c *cluster) up() {
	c.t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: c.dir, Listen: strings.TrimPrefix(c.url, "nats://")})
	if err != nil {
		c.t.Fatal(err)
	}
	c.srv, c.url = srv, srv.URL()
}

func (c *cluster) down() {
	c.t.Helper()
	must(c.t, c.srv.Close())
}

func (c *cluster) connect() *nats.Conn {
	c.t.Helper()
	nc, err := nats.Connect(c.url, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	must(c.t, err)
	c.t.Cleanup(nc.Close)
	return nc
}

func (c *cluster) js() jetstream.JetStream {
	c.t.Helper()
	js, err := jetstream.New(c.connect())
	must(c.t, err)
	return js
}

// store opens the bucket by a connection of its own.
func (c *cluster) store() *store {
	c.t.Helper()
	s, err := newStore(c.connect(), Config{})
	must(c.t, err)
	must(c.t, s.open(c.t.Context()))
	return s
}

// group makes a group without nodes.
func (c *cluster) group(s *store, name string) version {
	c.t.Helper()
	return c.groupAt(s, name, uint64(time.Now().UnixMicro()), version{})
}

func (c *cluster) groupAt(s *store, name string, incarnation uint64, before version) version {
	c.t.Helper()
	r, err := handoff.New(name, incarnation, handoff.Settings{})
	must(c.t, err)
	v, err := s.put(c.t.Context(), before, r)
	must(c.t, err)
	return v
}

// bump stores a next record that differs by its epoch alone.
func (c *cluster) bump(s *store, v version) version {
	c.t.Helper()
	after, err := s.put(c.t.Context(), v, nextOf(c.t, v.record))
	must(c.t, err)
	return after
}

func nextOf(t testing.TB, r *handoff.Record) *handoff.Record {
	t.Helper()
	next, err := decodeNext(version{record: r})
	must(t, err)
	return next
}

func decodeNext(v version) (*handoff.Record, error) {
	next, err := handoff.Decode(v.record.Encode())
	if err == nil {
		next.Epoch++
	}
	return next, err
}

// write stores anything at a subject of the bucket, as any program could.
func (c *cluster) write(subject, data string, header nats.Header) {
	c.t.Helper()
	_, err := c.js().PublishMsg(c.t.Context(), &nats.Msg{Subject: subject, Data: []byte(data), Header: header})
	must(c.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got the error %v, want one that is %q", err, want)
	}
}

// eventually waits for something that has no channel of its own.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for begun := time.Now(); !f(); {
		if time.Since(begun) > testPatience {
			t.Fatalf("waited in vain until %s", what)
		}
		streams.Pause(context.Background(), time.Millisecond)
	}
}
