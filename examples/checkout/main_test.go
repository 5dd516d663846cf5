// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/assent-tx/assent/internal/databases" //nolint:depguard // real servers for the tests
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(databases.Main(m), goleak.IgnoreCurrent()) }

// The story on the databases that are there: SQLite, and MariaDB.
func TestStory(t *testing.T) {
	postgres := databases.SharedPostgres(t)
	for _, stock := range []string{"sqlite", "mariadb"} {
		t.Run(stock, func(t *testing.T) {
			cfg := config{postgres: postgres.Database(t), stock: stock}
			if stock == "mariadb" {
				cfg.stock = databases.SharedMariaDB(t).Database(t)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			var out strings.Builder
			if err := run(ctx, &out, cfg); err != nil {
				t.Fatalf("%v, after\n%s", err, out.String())
			}
			t.Log("\n" + out.String())
			for _, want := range []string{
				"nothing happened: orders says: ", "23503",
				"nothing happened: stock says: checkout_stock lamp: 9 wanted, 8 available\n",
				"nothing happened: payments says: card 4000-02: declined: 12.50 wanted, 10.00 free\n",
				"nothing happened: outbox says: operation 0: subject confirmations.fax: no stream takes it",
				"orders        1: carol, 2 × lamp, 25.00   6: dave, 3 × lamp, 37.50\n    stock         5 free, 0 reserved\n    payments      62.50 taken, 0.00 held\n    confirmations 2\n",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q was not said", want)
				}
			}
		})
	}
}

// What is there that must not be is found.
func TestCheckFinds(t *testing.T) {
	postgres := databases.SharedPostgres(t)
	ctx := t.Context()
	s, err := open(ctx, config{postgres: postgres.Database(t), stock: "sqlite"}, t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := s.check(ctx, io.Discard, state{free: 10}); err != nil {
		t.Error(err)
	}
	if _, err := s.stores.stock.ExecContext(ctx, `UPDATE checkout_stock SET reserved = 1`); err != nil {
		t.Fatal(err)
	}
	if s.check(ctx, io.Discard, state{free: 10}) == nil {
		t.Error("a reservation that nobody made was not found")
	}
	if s.tell(ctx, io.Discard, story[0].purchase, "stock") == nil {
		t.Error("an order that should have been refused was not found")
	}
}

// What is named and is no database is said to be so, and by which flag it was named.
func TestDatabasesThatAreNone(t *testing.T) {
	for flag, cfg := range map[string]config{
		"-postgres": {postgres: "host=nowhere port=none"},
		"orders":    {postgres: "postgres://127.0.0.1:1/none?connect_timeout=5"},
	} {
		if err := run(t.Context(), io.Discard, cfg); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// A participant without a store bears what every participant has to: its provider knows.
func TestPaymentsBearRepetition(t *testing.T) {
	ctx := t.Context()
	provider := &Provider{payments: make(map[string]*charge), limits: map[string]int64{"card": 100}}
	p := &payments{provider}
	prepare := func(tx messages.ID, cents string) (participant.Vote, error) {
		payload := []byte(`{"card":"card","cents":` + cents + `}`)
		return p.Prepare(ctx, &participant.Branch{Tx: tx, Operations: []messages.Operation{{Payload: payload}}})
	}
	want := func(taken, holds int64) {
		t.Helper()
		if a, b := provider.totals(); a != taken || b != holds {
			t.Errorf("%d taken, %d held; want %d and %d", a, b, taken, holds)
		}
	}
	paid, undone, overtaken := messages.NewID(), messages.NewID(), messages.NewID()
	for range 2 {
		for tx, cents := range map[messages.ID]string{paid: "70", undone: "30"} {
			if vote, err := prepare(tx, cents); vote != participant.Yes || err != nil {
				t.Fatal(vote, err)
			}
		}
		want(0, 100)
	}
	if _, err := prepare(messages.NewID(), "1"); !errors.Is(err, participant.ErrRefused) {
		t.Errorf("beyond the card's limit: %v", err)
	}
	for range 2 {
		if err := errors.Join(p.Commit(ctx, paid), p.Rollback(ctx, undone), p.Rollback(ctx, overtaken)); err != nil {
			t.Fatal(err)
		}
		want(70, 0)
	}
	if vote, err := prepare(paid, "70"); vote != participant.Yes || err != nil {
		t.Errorf("prepare after the commit: %v, %v", vote, err)
	}
	if _, err := prepare(overtaken, "1"); !errors.Is(err, participant.ErrRefused) {
		t.Errorf("prepare after its own rollback: %v", err)
	}
	if err := p.Commit(ctx, undone); !errors.Is(err, participant.ErrHeuristic) {
		t.Errorf("commit of what lapsed: %v", err)
	}
	want(70, 0)
}
