// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPatience bounds the waiting for what must happen: much longer than it takes.
const testPatience = time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fixture is a server for one test, with a connection and two buckets, a and b.
type fixture struct {
	t   testing.TB
	dir string
	url string
	srv *embedded.Server
	nc  *nats.Conn
	js  jetstream.JetStream
	log *logrus.Logger
	// said is what was logged.
	said *strings.Builder
}

func start(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), url: "127.0.0.1:0"}
	f.up()
	t.Cleanup(func() { _ = f.srv.Close() })
	g := newFixture(t, f.connect())
	g.dir, g.url, g.srv = f.dir, f.url, f.srv
	g.bucket(jetstream.KeyValueConfig{Bucket: "a"})
	g.bucket(jetstream.KeyValueConfig{Bucket: "b"})
	return g
}

// newFixture is one of a server that is there.
func newFixture(t testing.TB, nc *nats.Conn) *fixture {
	t.Helper()
	f := &fixture{t: t, nc: nc, log: logrus.New(), said: &strings.Builder{}}
	f.log.SetOutput(f.said)
	var err error
	f.js, err = jetstream.New(nc)
	must(t, err)
	return f
}

// up starts the server, again where it was before.
func (f *fixture) up() {
	f.t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: f.dir, Listen: strings.TrimPrefix(f.url, "nats://")})
	must(f.t, err)
	f.srv, f.url = srv, srv.URL()
}

func (f *fixture) connect() *nats.Conn {
	f.t.Helper()
	nc, err := nats.Connect(f.url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	must(f.t, err)
	f.t.Cleanup(nc.Close)
	return nc
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	f.t.Cleanup(cancel)
	return ctx
}

func (f *fixture) bucket(cfg jetstream.KeyValueConfig) jetstream.KeyValue {
	f.t.Helper()
	b, err := f.js.CreateKeyValue(f.ctx(), cfg)
	must(f.t, err)
	return b
}

func (f *fixture) kv(name string) jetstream.KeyValue {
	f.t.Helper()
	b, err := f.js.KeyValue(f.ctx(), name)
	must(f.t, err)
	return b
}

func (f *fixture) put(bucket, key, value string) uint64 {
	f.t.Helper()
	revision, err := f.kv(bucket).PutString(f.ctx(), key, value)
	must(f.t, err)
	return revision
}

// want compares what a plain reader sees: "" is nothing.
func (f *fixture) want(bucket, key, value string) {
	f.t.Helper()
	got, err := f.kv(bucket).Get(f.ctx(), key)
	if value == "" && err == jetstream.ErrKeyNotFound {
		return
	}
	if err != nil || string(got.Value()) != value {
		f.t.Errorf("%s/%s is %v, %v, want %q", bucket, key, got, err, value)
	}
}

// store is a participant's handler, which takes the journal over.
func (f *fixture) store() *store {
	f.t.Helper()
	p, err := New(f.nc, Config{Log: f.log})
	must(f.t, err)
	j, err := journal.Take(f.ctx(), f.js, journal.Config{Name: p.cfg.Name, Log: f.log})
	must(f.t, err)
	f.t.Cleanup(j.Close)
	s, err := p.store(j)
	must(f.t, err)
	f.t.Cleanup(s.requests.close)
	return s
}

// branch is one operation that locks what it needs.
func branch(op Operation) *participant.Branch {
	exclusive, shared := op.keys()
	payload := encode(op)
	return &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(time.Minute), Sole: true,
		Operations: []messages.Operation{{Keys: exclusive, Shared: shared, Payload: payload}}}
}

func revision(n uint64) *uint64 { return &n }

func set(bucket, key, value string, at ...uint64) Write {
	w := Write{Bucket: bucket, Key: key, Value: []byte(value)}
	if len(at) > 0 {
		w.Revision = &at[0]
	}
	return w
}

func writes(w ...Write) Operation { return Operation{Writes: w} }

func (f *fixture) wantVote(s *store, b *participant.Branch, want participant.Vote) {
	f.t.Helper()
	if vote, err := s.Prepare(f.ctx(), b); vote != want || err != nil {
		f.t.Fatalf("the vote is %v, %v, want %v", vote, err, want)
	}
}
