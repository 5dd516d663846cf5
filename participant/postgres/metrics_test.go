// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
)

// gather gives what a scrape of some stores sees of a metric, by participant.
func gather(t testing.TB, from prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == name {
				values[m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return values
}

// An orphan shows, and ages until it is ended; each participant's are its own.
func TestMetrics(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s, other := d.store(nil), d.store(func(cfg *Config) { cfg.Name = "other" })
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s, other)
	if err := registry.Register(d.store(nil)); err == nil {
		t.Error("a second store of the same participant is registered")
	}
	want := func(prepared int) {
		t.Helper()
		text := fmt.Sprintf("# HELP assent_postgres_prepared Branches that the database holds prepared, of all instances.\n# TYPE assent_postgres_prepared gauge\n"+
			"assent_postgres_prepared{participant=\"bank\"} %d\nassent_postgres_prepared{participant=\"other\"} 0\n", prepared)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "assent_postgres_prepared"); err != nil {
			t.Error(err)
		}
	}
	oldest := func() float64 {
		t.Helper()
		ages := gather(t, registry, "assent_postgres_oldest_seconds")
		if ages["other"] != 0 {
			t.Errorf("ages: %v", ages)
		}
		return ages["bank"]
	}
	want(0)
	if age := oldest(); age != 0 {
		t.Errorf("the age of nothing is %v", age)
	}
	b := branch(transfer{"a", 1})
	prepare(t, s, b, participant.Yes)
	want(1)
	young := oldest()
	eventually(t, "it grows older", func() bool { return oldest() > young && young > 0 })
	must(t, s.Commit(t.Context(), b.Tx))
	want(0)
	if age := oldest(); age != 0 {
		t.Errorf("the age after the outcome is %v", age)
	}
	problems, err := testutil.GatherAndLint(registry)
	must(t, err)
	for _, problem := range problems {
		t.Errorf("%+v", problem)
	}
}

func TestMetricsOfTheReaper(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	const old = maxReap + 1
	d.exec("INSERT INTO assent_markers SELECT 'bank', gen_random_uuid(), pg_current_xact_id(), now() - interval '1 hour', true FROM generate_series(1, $1)", old)
	var snapshot string
	must(t, d.pool.QueryRow(t.Context(), "SELECT pg_current_snapshot()::text").Scan(&snapshot))
	for range parts + 1 {
		s.reaper.took(snapshot)
	}
	must(t, s.SetWatermark(t.Context(), "log-0", "x", 1))
	if removed := gather(t, registry, "assent_postgres_markers_removed_total")["bank"]; removed != old {
		t.Errorf("%v of %d markers are removed", removed, old)
	}
}

// Those who scrape at once get the same answer, and a pool without a free connection keeps them no longer than the limit.
func TestMetricsOfABusyPool(t *testing.T) {
	t.Parallel()
	d := newBank(t, nil)
	s := d.store(nil)
	prepare(t, s, branch(transfer{"a", 1}), participant.Yes)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	scrape := func(see func(prepared float64, err error)) {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				families, err := registry.Gather()
				prepared := 0.0
				for _, family := range families {
					if family.GetName() == "assent_postgres_prepared" {
						prepared = family.GetMetric()[0].GetGauge().GetValue()
					}
				}
				see(prepared, err)
			})
		}
		all.Wait()
	}
	scrape(func(prepared float64, err error) {
		if prepared != 1 || err != nil {
			t.Errorf("%v are prepared, %v", prepared, err)
		}
	})
	all := s.pool.AcquireAllIdle(t.Context())
	for range int(s.pool.Config().MaxConns) - len(all) {
		conn, err := s.pool.Acquire(t.Context())
		must(t, err)
		all = append(all, conn)
	}
	began := time.Now()
	scrape(func(prepared float64, err error) {
		if err == nil || !strings.Contains(err.Error(), "what is prepared") {
			t.Errorf("%v are prepared, %v: want an error", prepared, err)
		}
	})
	if took := time.Since(began); took > patience/2 { // the limit is 2 s, for all of them together
		t.Errorf("it took %v", took)
	}
	for _, conn := range all {
		conn.Release()
	}
	scrape(func(prepared float64, err error) {
		if prepared != 1 || err != nil {
			t.Errorf("after the error %v are prepared, %v", prepared, err)
		}
	})
	found, err := s.InDoubt(t.Context())
	must(t, err)
	must(t, s.Rollback(t.Context(), found[0].Tx))
}

// A dead database is an error of the scrape, and the numbers are there again when it is.
func TestMetricsOfADeadDatabase(t *testing.T) {
	t.Parallel()
	server := databases.Postgres(t)
	d := newBank(t, server)
	s := d.store(nil)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	prepare(t, s, branch(transfer{"a", 1}), participant.Yes)
	must(t, server.Kill())
	families, err := registry.Gather()
	if err == nil || !strings.Contains(err.Error(), "postgres: what is prepared") || len(families) != 0 {
		t.Errorf("%v, %v: want an error alone", families, err)
	}
	must(t, server.Start())
	eventually(t, "a scrape without an error", func() bool { _, err := registry.Gather(); return err == nil })
	if prepared := gather(t, registry, "assent_postgres_prepared")["bank"]; prepared != 1 {
		t.Errorf("%v are prepared", prepared)
	}
}
