// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/assent-tx/assent/participant"
)

// in runs something in a local transaction.
func in(t *testing.T, db *sql.DB, do func(ctx context.Context, tx *sql.Tx) error) error {
	t.Helper()
	return transact(t.Context(), db, nil, func(ctx context.Context, tx *sql.Tx) (bool, error) {
		err := do(ctx, tx)
		return err == nil, err
	})
}

func TestQuantity(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := &shop{on: on, db: on.open(t)}
		makeStock(t, s.db, "widget")
		q := on.quantity()
		q.Max = 20
		try := func(n int64) func(context.Context, *sql.Tx) error {
			return func(ctx context.Context, tx *sql.Tx) error { return q.Try(ctx, tx, "widget", n) }
		}
		confirm := func(n int64) func(context.Context, *sql.Tx) error {
			return func(ctx context.Context, tx *sql.Tx) error { return q.Confirm(ctx, tx, "widget", n) }
		}
		cancel := func(n int64) func(context.Context, *sql.Tx) error {
			return func(ctx context.Context, tx *sql.Tx) error { return q.Cancel(ctx, tx, "widget", n) }
		}
		must(t, in(t, s.db, try(4)))
		must(t, in(t, s.db, try(5)))
		wantError(t, in(t, s.db, try(2)), participant.ErrRefused, "stock widget: 2 wanted, 1 available")
		must(t, in(t, s.db, try(-10)))
		wantError(t, in(t, s.db, try(-1)), participant.ErrRefused, "stock widget: 1 wanted in, room for 0")
		s.wantStock(t, "widget", 1, 9, 10)
		must(t, in(t, s.db, confirm(4)))
		must(t, in(t, s.db, cancel(5)))
		s.wantStock(t, "widget", 6, 0, 10)
		must(t, in(t, s.db, confirm(-7)))
		must(t, in(t, s.db, cancel(-3)))
		s.wantStock(t, "widget", 13, 0, 0)
		// What is not there cannot be moved, and says so.
		for _, do := range []func(context.Context, *sql.Tx) error{confirm(1), cancel(1), confirm(-1), cancel(-1)} {
			if err := in(t, s.db, do); err == nil || errors.Is(err, participant.ErrRefused) || !strings.Contains(err.Error(), "put it back") {
				t.Errorf("got %v", err)
			}
		}
		q.Incoming = ""
		wantError(t, in(t, s.db, try(-1)), participant.ErrRefused, "nothing can be added")
		s.wantStock(t, "widget", 13, 0, 0)
	})
}

// Names are quoted, and columns may be narrower than the amounts that come.
func TestQuantityNames(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		db := on.open(t)
		q := Quantity{Dialect: on.dialect, Table: "Odd `\" table", ID: "select", Available: "free $1", Reserved: "Re served", Incoming: "in"}
		if on == onMariaDB {
			q.Table = "Odd ` table"
		}
		columns := q.name(q.ID) + ` INT NOT NULL PRIMARY KEY, ` + q.name(q.Available) + ` INT NOT NULL, ` + q.name(q.Reserved) + ` INT NOT NULL, ` +
			q.name(q.Incoming) + ` INT NOT NULL`
		exec(t, db, `CREATE TABLE `+q.table()+` (`+columns+`)`)
		exec(t, db, `INSERT INTO `+q.table()+` VALUES (7, 10, 0, 0)`)
		must(t, in(t, db, func(ctx context.Context, tx *sql.Tx) error {
			return errors.Join(q.Try(ctx, tx, 7, 3), q.Try(ctx, tx, 7, -2), q.Confirm(ctx, tx, 7, 3), q.Cancel(ctx, tx, 7, -2))
		}))
		err := in(t, db, func(ctx context.Context, tx *sql.Tx) error { return q.Try(ctx, tx, 7, MaxQuantity) })
		wantError(t, err, participant.ErrRefused, "7 free $1")
		// A column that is not there is an error, and no text that equals another.
		q.ID = "sku"
		if err := in(t, db, func(ctx context.Context, tx *sql.Tx) error { return q.Try(ctx, tx, "sku", 1) }); err == nil || errors.Is(err, participant.ErrRefused) {
			t.Errorf("got %v", err)
		}
		if err := in(t, db, func(ctx context.Context, tx *sql.Tx) error { return Quantity{}.Try(ctx, tx, 1, 1) }); err == nil {
			t.Error("a Quantity without names works")
		}
		q.Incoming = "why?"
		if err := in(t, db, func(ctx context.Context, tx *sql.Tx) error { return q.Try(ctx, tx, 7, 1) }); err == nil || !strings.Contains(err.Error(), "question mark") {
			t.Errorf("got %v", err)
		}
	})
}
