// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"maps"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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
