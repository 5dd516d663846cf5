// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"errors"
	"maps"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-tx/assent/participant"
)

// scrape gives what a scrape sees of a participant: by name, and by fate where there is one. The age, which changes all the time, is apart.
func scrape(t *testing.T, from prometheus.Gatherer, name string) (values map[string]float64, oldest float64) {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	values = make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := make(map[string]string)
			for _, label := range m.GetLabel() {
				labels[label.GetName()] = label.GetValue()
			}
			if labels["participant"] == name {
				values[family.GetName()+labels["fate"]] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	oldest = values["assent_kv_oldest_seconds"]
	delete(values, "assent_kv_oldest_seconds")
	return values, oldest
}

// What is prepared shows until it is applied, also while it cannot be.
func TestMetrics(t *testing.T) {
	f := start(t)
	s := f.store()
	p, err := New(f.nc, Config{})
	must(t, err)
	p.journal, s.counts = s.Journal, &p.counts // as work does
	other, err := New(f.nc, Config{Name: "other"})
	must(t, err)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p, other)
	want := func(name string, open, prepared, conflicts, failures float64) {
		t.Helper()
		want := map[string]float64{
			"assent_kv_open": open, "assent_kv_branches_totalprepared": prepared, "assent_kv_branches_totalconflict": conflicts,
			"assent_kv_branches_totalapplied": 0, "assent_kv_overtaken_total": 0, "assent_kv_apply_failures_total": failures,
		}
		got, oldest := scrape(t, registry, name)
		if !maps.Equal(got, want) || (oldest == 0) != (open == 0) {
			t.Errorf("%v, the oldest %v s, want %v", got, oldest, want)
		}
	}
	want("kv", 0, 0, 0, 0)
	stale := f.put("a", "x", "1")
	f.put("a", "x", "2")
	if _, err := s.Prepare(f.ctx(), branch(writes(set("a", "x", "3", stale)))); err == nil {
		t.Fatal("what was read is not up to date, and is prepared")
	}
	b := branch(writes(set("a", "x", "3"), set("b", "y", "3")))
	f.wantVote(s, b, participant.Yes)
	want("kv", 1, 1, 1, 0)
	_, young := scrape(t, registry, "kv")
	f.until(func() bool {
		_, old := scrape(t, registry, "kv")
		return old > young
	})
	must(t, f.js.DeleteKeyValue(f.ctx(), "b"))
	if err := s.Commit(f.ctx(), b.Tx); err == nil {
		t.Fatal("it is committed without its bucket")
	}
	want("kv", 1, 1, 1, 1)
	must(t, s.Rollback(f.ctx(), b.Tx))
	want("kv", 0, 1, 1, 1)
	want("other", 0, 0, 0, 0)
	next, err := New(f.nc, Config{})
	must(t, err)
	if err := registry.Register(next); err == nil {
		t.Error("a second one of the same name is registered")
	}
	if !registry.Unregister(p) {
		t.Error("the first one cannot be unregistered")
	}
	registry.MustRegister(next)
	want("kv", 0, 0, 0, 0)
	problems, err := testutil.GatherAndLint(registry)
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%+v", problem)
	}
}

// What another instance has taken over is not this one's any more: its age would grow for as long as this one stands by.
func TestNothingIsOpenAtTheSuperseded(t *testing.T) {
	w := newWorld(t)
	p, r := w.participate(w.connect(), Config{})
	s := slow{make(chan struct{})}
	other, err := participant.New(w.connect(), participant.Config{Name: "slow", Handler: s})
	must(t, err)
	run(t, other.Run, other.Ready())
	tx := w.assent.Begin()
	Enlist(tx, DefaultName, writes(set("a", "x", "1")))
	tx.Enlist("slow", nil)
	ended := make(chan error, 1)
	go func() { ended <- tx.Commit(w.ctx()) }()
	w.until(func() bool { return p.Stats().Open == 1 })
	j := p.journal
	next, _ := w.participate(w.connect(), Config{})
	if err := j.Prove(w.ctx()); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the first one writes: %v", err)
	}
	if err := r.wait(); !errors.Is(err, ErrSuperseded) {
		t.Errorf("the first one ended with %v", err)
	}
	if mine, its := p.Stats(), next.Stats(); mine.Open != 0 || !mine.Oldest.IsZero() || mine.Prepared != 1 || its.Open != 1 {
		t.Errorf("the first one has %+v, the next %+v", mine, its)
	}
	close(s.release)
	must(t, <-ended)
}
