// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}

// wait is how long a test waits for what must happen.
const wait = 3 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", wait, what)
		}
	}
}

// desk is a server, and an outbox's handler on it, which the test calls as the SDK would.
type desk struct {
	*handler
	t       testing.TB
	server  *embedded.Server
	streams jetstream.JetStream // the test's own access
}

func newDesk(t testing.TB) *desk {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close()) })
	d := &desk{t: t, server: server}
	d.streams, err = jetstream.New(d.connect())
	must(t, err)
	d.handler = d.instance()
	return d
}

func (d *desk) connect() *nats.Conn {
	nc, err := d.server.Connect()
	must(d.t, err)
	d.t.Cleanup(nc.Close)
	return nc
}

// instance takes the outbox over, as Run does.
func (d *desk) instance() *handler {
	d.t.Helper()
	o, err := New(d.connect(), Config{})
	must(d.t, err)
	js, err := jetstream.New(o.nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(ackTimeout))
	must(d.t, err)
	d.t.Cleanup(js.CleanupPublisher)
	j, err := journal.Take(d.t.Context(), js, journal.Config{Name: o.cfg.Name})
	must(d.t, err)
	d.t.Cleanup(j.Close)
	h, err := newHandler(o, js, j)
	must(d.t, err)
	h.publisher.patience = wait // the machine may be slow
	return h
}

// crash ends the instance in the middle of everything, and lets another one take over.
func (d *desk) crash() {
	d.t.Helper()
	d.nc.Close()
	d.handler = d.instance()
}

func (d *desk) stream(cfg jetstream.StreamConfig) {
	d.t.Helper()
	_, err := d.streams.CreateOrUpdateStream(d.t.Context(), cfg)
	must(d.t, err)
}

// orders is the stream of most tests.
func orders() jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Duplicates: 100 * time.Millisecond}
}

// branch is one with a message for each operation.
func branch(t testing.TB, contents ...Message) *participant.Branch {
	t.Helper()
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(time.Hour), Sole: true}
	for _, m := range contents {
		payload, err := json.Marshal(m)
		must(t, err)
		b.Operations = append(b.Operations, messages.Operation{Payload: payload})
	}
	return b
}

func text(subject, data string) Message { return Message{Subject: subject, Data: []byte(data)} }

func (d *desk) prepare(b *participant.Branch) {
	d.t.Helper()
	if r := d.PrepareBatch(d.t.Context(), []*participant.Branch{b})[0]; r.Vote != participant.Yes || r.Err != nil {
		d.t.Fatalf("prepare: %v, %v; want a yes", r.Vote, r.Err)
	}
}

func (d *desk) wantRefusal(b *participant.Branch, reason string) {
	d.t.Helper()
	r := d.PrepareBatch(d.t.Context(), []*participant.Branch{b})[0]
	if !errors.Is(r.Err, participant.ErrRefused) || !strings.Contains(r.Err.Error(), reason) {
		d.t.Errorf("prepare: %v, %v; want a refusal that says %q", r.Vote, r.Err, reason)
	}
	if d.journal.Status(b.Tx) != journal.Unknown {
		d.t.Errorf("what was refused (%s) is in the journal", reason)
	}
}

func (d *desk) finish(b *participant.Branch, commit bool) error {
	return d.FinishBatch(d.t.Context(), []participant.Outcome{{Tx: b.Tx, Commit: commit}})[0]
}

// commit repeats what fails, as the SDK does.
func (d *desk) commit(b *participant.Branch) {
	d.t.Helper()
	var err error
	defer func() {
		if err != nil {
			d.t.Log(err)
		}
	}()
	eventually(d.t, "the commit", func() bool {
		err = d.finish(b, true)
		return err == nil
	})
}

// publishOnly is what a commit does up to its crash right before the journal hears of it.
func (d *desk) publishOnly(b *participant.Branch) {
	d.t.Helper()
	in, err := d.load(b.Tx)
	must(d.t, err)
	must(d.t, errors.Join(d.publisher.publish(d.t.Context(), []*intent{in})...))
}

// wantStored compares the bodies in a stream with what must be there.
func (d *desk) wantStored(stream string, want ...string) {
	d.t.Helper()
	if got := d.stored(stream); !slices.Equal(got, want) {
		d.t.Errorf("stream %s has %q, want %q", stream, got, want)
	}
}

// stored are the bodies in a stream, without those of passWindow.
func (d *desk) stored(name string) (bodies []string) {
	d.t.Helper()
	stream, err := d.streams.Stream(d.t.Context(), name)
	must(d.t, err)
	state := stream.CachedInfo().State
	for seq := max(state.FirstSeq, 1); seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(d.t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		must(d.t, err)
		if !strings.HasSuffix(m.Subject, ".probe") {
			bodies = append(bodies, string(m.Data))
		}
	}
	return bodies
}

// passWindow waits until a stream has forgotten the ids that it knows.
func (d *desk) passWindow(subject string) {
	d.t.Helper()
	id := nats.NewInbox()
	duplicate := func() bool {
		ack, err := d.streams.Publish(d.t.Context(), subject+".probe", nil, jetstream.WithMsgID(id))
		must(d.t, err)
		return ack.Duplicate
	}
	if duplicate() {
		d.t.Fatal("the probe was there already")
	}
	eventually(d.t, "the end of the duplicate window", func() bool { return !duplicate() })
}

// numbered are so many bodies.
func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// soon is a context that ends when a test has waited long enough.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	t.Cleanup(cancel)
	return ctx
}
