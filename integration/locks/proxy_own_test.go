// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The tools of the fault tests do what the tests think they do.

func TestLinkLosesWhatItIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	nc, links := w.behind("through")
	l := links[0]
	got, err := w.nc.SubscribeSync("core")
	must(t, err)
	must(t, w.nc.Flush())
	next := func() string {
		msg, err := got.NextMsg(patience)
		must(t, err)
		return string(msg.Data)
	}
	say := func(text string) {
		must(t, nc.PublishMsg(&nats.Msg{Subject: "core", Data: []byte(text), Header: nats.Header{"A": {"b"}}}))
	}

	l.judgedBy(func(f *frame) fate {
		switch {
		case !isCore(f):
			return passes
		case len(f.payload) > 0 && f.payload[len(f.payload)-1] == '1':
			return isLost
		default:
			return fate{0, 0}
		}
	})
	say("lost 1")
	say("twice 2")
	if a, b := next(), next(); a != "twice 2" || b != "twice 2" {
		t.Errorf("got %q and %q", a, b)
	}
	l.judgedBy(func(f *frame) fate {
		if isPubAck(f) {
			return isLost
		}
		return passes
	})
	js, err := jetstream.New(nc)
	must(t, err)
	kv, err := js.KeyValue(t.Context(), resource)
	must(t, err)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := kv.Put(short, "k", []byte("stored")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a put without an acknowledgement: %v", err)
	}
	entry, err := kv.Get(t.Context(), "k")
	must(t, err)
	if string(entry.Value()) != "stored" {
		t.Errorf("it is %q", entry.Value())
	}
}

func TestLinkIsAPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	nc, links := w.behind("through")
	l := links[0]
	l.freeze()
	if err := nc.FlushTimeout(200 * time.Millisecond); !errors.Is(err, nats.ErrTimeout) {
		t.Errorf("through a frozen link: %v", err)
	}
	l.thawed()
	must(t, nc.FlushTimeout(patience))
	l.cut()
	w.eventually("it connects again", func(context.Context) error { return nc.FlushTimeout(time.Second) })
}

// The overlay's clock is the server's: what it stores has the time that it was told.
func TestServersClockIsSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	kv, err := w.js().KeyValue(t.Context(), resource)
	must(t, err)
	stored := func() time.Time {
		_, err := kv.Put(t.Context(), "k", nil)
		must(t, err)
		entry, err := kv.Get(t.Context(), "k")
		must(t, err)
		return entry.Created()
	}
	before := stored()
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		server := w.servers[0].proc()
		server.tell(t, "step "+by.String())
		server.hear(t, "stepped")
		if moved := stored().Sub(before); (moved - by).Abs() > patience {
			t.Errorf("a step by %v moved what is stored by %v", by, moved)
		}
		server.tell(t, "step "+(-by).String())
		server.hear(t, "stepped")
	}
}
