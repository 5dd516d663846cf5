// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/link"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPatience bounds the waiting for what must happen: much longer than it takes.
const testPatience = time.Minute

// fixture is a server for one test.
type fixture struct {
	t   testing.TB
	dir string
	url string
	srv *embedded.Server
}

func start(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: t.TempDir(), url: "127.0.0.1:0"}
	f.up()
	t.Cleanup(func() { _ = f.srv.Close() })
	return f
}

// up starts the server, again where it was before.
func (f *fixture) up() {
	f.t.Helper()
	srv, err := embedded.Start(embedded.Config{Dir: f.dir, Listen: strings.TrimPrefix(f.url, "nats://")})
	must(f.t, err)
	f.srv, f.url = srv, srv.URL()
}

func (f *fixture) down() {
	f.t.Helper()
	must(f.t, f.srv.Close())
}

// js is JetStream over a connection of its own; "" stands for the server itself.
func (f *fixture) js(url string) jetstream.JetStream {
	f.t.Helper()
	if url == "" {
		url = f.url
	}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	must(f.t, err)
	f.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(f.t, err)
	return js
}

// take opens the journal "kv".
func (f *fixture) take(js jetstream.JetStream, cfg Config) *Journal {
	f.t.Helper()
	cfg.Name = "kv"
	j, err := Take(f.ctx(), js, cfg)
	must(f.t, err)
	f.t.Cleanup(j.Close)
	return j
}

func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	f.t.Cleanup(cancel)
	return ctx
}

func (f *fixture) stream(js jetstream.JetStream) jetstream.StreamState {
	f.t.Helper()
	s, err := js.Stream(f.ctx(), "assent-journal-kv")
	must(f.t, err)
	return s.CachedInfo().State
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func entry(tx messages.ID, data string) Entry {
	return Entry{Tx: tx, Expires: time.Now().Add(time.Hour), Data: []byte(data)}
}

func committed(tx messages.ID) participant.Outcome {
	return participant.Outcome{Tx: tx, Commit: true}
}
func rolledBack(tx messages.ID) participant.Outcome { return participant.Outcome{Tx: tx} }

// wantOpen compares what is open: ids and data in turn.
func wantOpen(t testing.TB, j *Journal, want ...Entry) {
	t.Helper()
	got := j.Entries()
	if len(got) != len(want) {
		t.Fatalf("%d are open, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i].Tx != want[i].Tx || string(got[i].Data) != string(want[i].Data) || got[i].Expires.UnixMilli() != want[i].Expires.UnixMilli() {
			t.Fatalf("open: %v, want %v", got[i], want[i])
		}
	}
}

// link is a network between a client and the server that can lose what the server says.
func (f *fixture) link() *link.Link {
	f.t.Helper()
	l, err := link.New(func() string { return strings.TrimPrefix(f.url, "nats://") })
	must(f.t, err)
	f.t.Cleanup(l.Close)
	return l
}
