// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-tx/assent/internal/databases"
)

// registered is a registry with a shop.
func registered(s *shop) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(s)
	return registry
}

// scrape gives what a scrape sees of the shop.
func scrape(from prometheus.Gatherer) (inDoubt, oldest float64, err error) {
	families, err := from.Gather()
	for _, family := range families {
		value := family.GetMetric()[0].GetGauge().GetValue()
		switch family.GetName() {
		case "assent_sqlstore_in_doubt":
			inDoubt = value
		case "assent_sqlstore_oldest_seconds":
			oldest = value
		}
	}
	return inDoubt, oldest, err
}

// A branch that waits for its outcome shows, and ages until it has it.
func TestMetrics(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		registry := registered(s)
		if err := registry.Register(reopenShop(t, on, s.db)); err == nil {
			t.Error("a second store of the same participant is registered")
		}
		registry.MustRegister(reopenShop(t, on, s.db, func(cfg *Config) { cfg.Name = "warehouse" }))
		want := func(inDoubt int) {
			t.Helper()
			text := fmt.Sprintf("# HELP assent_sqlstore_in_doubt Branches that wait for their outcome in the database, of all instances.\n"+
				"# TYPE assent_sqlstore_in_doubt gauge\nassent_sqlstore_in_doubt{participant=\"shop\"} %d\nassent_sqlstore_in_doubt{participant=\"warehouse\"} 0\n", inDoubt)
			if err := testutil.GatherAndCompare(registry, strings.NewReader(text), "assent_sqlstore_in_doubt"); err != nil {
				t.Error(err)
			}
		}
		want(0)
		b := take("widget", 1)
		s.wantYes(t, b)
		want(1)
		_, young, err := scrape(registry)
		must(t, err)
		for old := young; old <= young; {
			_, old, err = scrape(registry)
			must(t, err)
		}
		must(t, s.Rollback(t.Context(), b.Tx))
		want(0)
		if _, oldest, err := scrape(registry); oldest != 0 || err != nil {
			t.Errorf("after the outcome: age %v, %v", oldest, err)
		}
		problems, err := testutil.GatherAndLint(registry)
		must(t, err)
		for _, problem := range problems {
			t.Errorf("%+v", problem)
		}
	})
}

// Those who scrape at once get the same answer, each of them.
func TestMetricsAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		s.wantYes(t, take("widget", 1))
		registry := registered(s)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if inDoubt, oldest, err := scrape(registry); inDoubt != 1 || oldest < 0 || err != nil {
					t.Errorf("in doubt %v, age %v, %v", inDoubt, oldest, err)
				}
			})
		}
		all.Wait()
	})
}

// wantTrouble wants a scrape to end with an error, and not late: the limit is two seconds and a half.
func wantTrouble(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	began := time.Now()
	if _, _, err := scrape(registry); err == nil {
		t.Error("there is no error")
	} else {
		t.Log(err)
	}
	if took := time.Since(began); took > 30*time.Second { // half of what the database may wait for a lock
		t.Errorf("it took %v", took)
	}
}

func wantWell(t *testing.T, registry *prometheus.Registry) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		inDoubt, _, err := scrape(registry)
		if err == nil && inDoubt == 1 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v are in doubt, %v: want 1", inDoubt, err)
		}
	}
}

func TestMetricsOfADeadDatabase(t *testing.T) {
	server := databases.MariaDB(t)
	db := onMariaDB.openAt(t, mariaDSN(t, server.Database(t)))
	makeStock(t, db, "widget")
	s := reopenShop(t, onMariaDB, db)
	s.wantYes(t, take("widget", 1))
	registry := registered(s)
	wantWell(t, registry)
	must(t, server.Kill())
	wantTrouble(t, registry)
	must(t, server.Start())
	wantWell(t, registry)
}

// SQLite waits for a lock as long as busy_timeout says, whatever the context says.
func TestMetricsOfALockedDatabase(t *testing.T) {
	dsn := "file:" + filepath.ToSlash(filepath.Join(t.TempDir(), "test.db")) + "?_pragma=busy_timeout(60000)&_pragma=synchronous(off)"
	db := onSQLite.openAt(t, dsn)
	makeStock(t, db, "widget")
	s := reopenShop(t, onSQLite, db)
	s.wantYes(t, take("widget", 1))
	registry := registered(s)
	conn, err := db.Conn(t.Context())
	must(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN EXCLUSIVE")
	must(t, err)
	wantTrouble(t, registry)
	_, err = conn.ExecContext(t.Context(), "ROLLBACK")
	must(t, err)
	must(t, conn.Close())
	wantWell(t, registry)
}
