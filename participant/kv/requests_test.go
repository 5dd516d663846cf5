// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// answering gives requests whose messages an echo answers, or "lost" not, or "twice" twice.
func answering(t *testing.T, busy int) (*fixture, *requests) {
	f := start(t)
	_, err := f.connect().Subscribe("echo", func(msg *nats.Msg) {
		switch string(msg.Data) {
		case "twice":
			_ = msg.Respond(msg.Data)
			_ = msg.Respond([]byte("second"))
		case "lost":
		default:
			_ = msg.Respond(msg.Data)
		}
	})
	must(t, err)
	r, err := newRequests(f.nc, make(chan struct{}, busy))
	must(t, err)
	t.Cleanup(r.close)
	for { // until the echo is there
		if answer, err := f.nc.RequestWithContext(f.ctx(), "echo", nil); err == nil && len(answer.Data) == 0 {
			return f, r
		} else if !errors.Is(err, nats.ErrNoResponders) {
			t.Fatal(err)
		}
	}
}

// echo sends texts and gives the answers, "" where there is none.
func (r *requests) echo(ctx context.Context, patience time.Duration, texts ...string) (answers []string) {
	return r.begin(len(texts), patience).echo(ctx, texts...)
}

func (b *batch) echo(ctx context.Context, texts ...string) (answers []string) {
	for _, text := range texts {
		b.send(ctx, &nats.Msg{Subject: "echo", Data: []byte(text)})
	}
	for _, answer := range b.wait(ctx) {
		if answer == nil {
			answers = append(answers, "")
		} else {
			answers = append(answers, string(answer.Data))
		}
	}
	return answers
}

// answered waits for some answers.
func (b *batch) answered(t *testing.T, which ...int) {
	t.Helper()
	for there := 0; there < len(which); {
		there = 0
		b.r.mu.Lock()
		for _, i := range which {
			if b.answers[i] != nil {
				there++
			}
		}
		b.r.mu.Unlock()
		if t.Context().Err() != nil {
			return
		}
		runtime.Gosched()
	}
}

func (r *requests) wantIdle(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open) != 0 || len(r.busy) != 0 {
		t.Errorf("%d open, %d busy, want none", len(r.open), len(r.busy))
	}
}

// Many batches at once, over few places: each gets its own answers.
func TestRequests(t *testing.T) {
	_, r := answering(t, 5)
	many(20, func(who int) {
		for round := range 20 {
			var texts []string
			for i := range (who + round) % 7 {
				texts = append(texts, strconv.Itoa(who*10_000+round*100+i))
			}
			answers := r.echo(t.Context(), testPatience, texts...)
			if !slices.Equal(answers, texts) {
				t.Errorf("%v, want %v", answers, texts)
			}
		}
	})
	r.wantIdle(t)
}

// What does not come is waited for so long, and no longer than the context; the rest is there.
func TestRequestsLost(t *testing.T) {
	_, r := answering(t, 2)
	want := func(got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		r.wantIdle(t)
	}
	for _, c := range []struct{ texts, answers []string }{
		{[]string{"a", "lost", "b"}, []string{"a", "", "b"}},
		{[]string{"a", "lost", "lost", "b", "c"}, []string{"a", "", "", "", ""}}, // no place is left
		{[]string{"lost", "a"}, []string{"", "a"}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		b := r.begin(len(c.texts), testPatience)
		var expected []int
		for i, text := range c.answers {
			if text != "" {
				expected = append(expected, i)
			}
		}
		go func() {
			b.answered(t, expected...)
			cancel()
		}()
		want(b.echo(ctx, c.texts...), c.answers...)
	}
	for _, patience := range []time.Duration{0, 20 * time.Millisecond} {
		want(r.echo(t.Context(), patience, "lost", "lost"), "", "")
		want(r.echo(t.Context(), patience, "lost", "lost", "lost", "lost"), "", "", "", "")
	}
	want(r.echo(t.Context(), testPatience))
	want(r.echo(t.Context(), testPatience, "a", "twice", "b"), "a", "twice", "b")
	publish := r.publish
	r.publish = func(*nats.Msg) error { return nats.ErrMaxPayload }
	want(r.echo(t.Context(), testPatience, "a", "b"), "", "")
	r.publish = publish
	want(r.echo(t.Context(), testPatience, "a", "b"), "a", "b")
}

// An answer that comes when nobody waits for it any more is nobody's: neither the next message's nor that of the same place in the next batch.
func TestRequestsLate(t *testing.T) {
	f, r := answering(t, 5)
	held := make(chan *nats.Msg, 1)
	sub, err := f.nc.Subscribe("held", func(msg *nats.Msg) { held <- msg })
	must(t, err)
	must(t, f.nc.Flush())
	b := r.begin(1, testPatience)
	ctx, cancel := context.WithCancel(t.Context())
	b.send(ctx, &nats.Msg{Subject: "held"})
	late := <-held
	cancel()
	if answers := b.wait(ctx); answers[0] != nil {
		t.Errorf("answered: %s", answers[0].Data)
	}
	r.wantIdle(t)
	must(t, late.Respond([]byte("late")))
	if got := r.echo(t.Context(), testPatience, "a", "b"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%q", got)
	}
	r.wantIdle(t)
	must(t, sub.Unsubscribe())
}
