// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// scrape gives what a scrape sees. The age, which changes all the time, is apart.
func scrape(t *testing.T, from prometheus.Gatherer) (values map[string]float64, oldest float64) {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	values = make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			values[family.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	oldest = values["assent_outbox_oldest_seconds"]
	delete(values, "assent_outbox_oldest_seconds")
	return values, oldest
}

// What cannot be published shows, and ages, until it is.
func TestMetrics(t *testing.T) {
	d := newDesk(t)
	o, err := New(d.nc, Config{})
	must(t, err)
	o.stats, o.journal = d.publisher.stats, d.journal // as work does
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(o)
	want := func(open, published, stuck, unsure float64) {
		t.Helper()
		want := map[string]float64{
			"assent_outbox_open": open, "assent_outbox_published_total": published, "assent_outbox_stuck": stuck, "assent_outbox_unsure_total": unsure,
		}
		got, oldest := scrape(t, registry)
		if !maps.Equal(got, want) || (oldest == 0) != (open == 0) {
			t.Errorf("%v, the oldest %v s, want %v", got, oldest, want)
		}
	}
	want(0, 0, 0, 0)
	d.stream(orders())
	d.stream(jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, Discard: jetstream.DiscardNew, MaxMsgs: 1})
	b := branch(t, text("orders.a", "0"), text("full", ""))
	d.prepare(b)
	want(1, 0, 0, 0)
	_, err = d.streams.Publish(t.Context(), "full", nil)
	must(t, err)
	if d.finish(b, true) == nil {
		t.Fatal("it is published to a full stream")
	}
	want(1, 1, 1, 0)
	_, young := scrape(t, registry)
	eventually(t, "it ages", func() bool {
		_, old := scrape(t, registry)
		return old > young
	})
	full, err := d.streams.Stream(t.Context(), "FULL")
	must(t, err)
	must(t, full.Purge(t.Context()))
	d.commit(b)
	want(0, 2, 0, 0)
	d.publisher.stats.unsure(b.Tx)
	want(0, 2, 0, 1)
	problems, err := testutil.GatherAndLint(registry)
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%+v", problem)
	}
}

// What another instance has taken over is not this one's any more: its age would grow, and it would be stuck, for as long as this one stands by.
func TestNothingIsStuckAtTheSuperseded(t *testing.T) {
	c := newCluster(t)
	_, err := c.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, Discard: jetstream.DiscardNew, MaxMsgs: 1})
	must(t, err)
	first, stop := c.outbox(Config{Lease: time.Minute})
	s := slow{make(chan struct{})}
	other, err := participant.New(c.nc, participant.Config{Name: "slow", Handler: s})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.run(ctx, other.Run, other.Ready())
	tx := c.client.Begin()
	tx.Enlist("slow", nil)
	Publish(tx, "outbox", text("full", "1"))
	ended := make(chan error, 1)
	go func() { ended <- tx.Commit(ctx) }()
	eventually(t, "it is prepared", func() bool { return first.Stats().Open == 1 })
	_, err = c.js.Publish(ctx, "full", nil)
	must(t, err)
	close(s.release)
	must(t, <-ended)
	eventually(t, "it is stuck", func() bool { return first.Stats().Stuck == 1 })
	j := first.journal
	next, err := journal.Take(ctx, c.js, journal.Config{Name: DefaultName})
	must(t, err)
	must(t, next.Settle(ctx, participant.Outcome{Tx: tx.ID(), Commit: true})) // as who has published it
	if err := j.Prove(ctx); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the first one writes: %v", err)
	}
	want := func(when string) {
		t.Helper()
		if mine := first.Stats(); mine.Open != 0 || !mine.Oldest.IsZero() || mine.Stuck != 0 {
			t.Errorf("%s the first one has %+v", when, mine)
		}
	}
	want("when it is superseded")
	next.Close()
	eventually(t, "the first one works again", func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.journal != j
	})
	want("when it works again")
	must(t, stop())
}

// slow says yes when it is released.
type slow struct{ release chan struct{} }

func (s slow) Prepare(ctx context.Context, _ *participant.Branch) (participant.Vote, error) {
	select {
	case <-s.release:
		return participant.Yes, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
func (slow) Commit(context.Context, messages.ID) error   { return nil }
func (slow) Rollback(context.Context, messages.ID) error { return nil }
