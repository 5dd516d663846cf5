// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/assent-tx/assent/participant/sqlstore"
)

// Reservation is an operation's payload for the service stock.
type Reservation struct {
	Item   string `json:"item"`
	Pieces int64  `json:"pieces"`
}

// openStock is the service that has the pieces, in MariaDB or SQLite: to prepare is to reserve them.
func openStock(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect) (*sqlstore.Store, error) {
	for _, statement := range []string{
		`DROP TABLE IF EXISTS checkout_stock`,
		`CREATE TABLE checkout_stock (item VARCHAR(64) PRIMARY KEY, available BIGINT NOT NULL, reserved BIGINT NOT NULL DEFAULT 0)`,
		`INSERT INTO checkout_stock (item, available) VALUES ('lamp', 10)`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("the table of stock: %w", err)
		}
	}
	pieces := sqlstore.Quantity{Dialect: dialect, Table: "checkout_stock", ID: "item", Available: "available", Reserved: "reserved"}
	each := func(part func(ctx context.Context, tx *sql.Tx, id any, amount int64) error) sqlstore.Func {
		return sqlstore.Each(func(ctx context.Context, tx *sql.Tx, r Reservation) error { return part(ctx, tx, r.Item, r.Pieces) })
	}
	return sqlstore.Open(ctx, db, sqlstore.Config{
		Name: "stock", Dialect: dialect, Try: each(pieces.Try), Confirm: each(pieces.Confirm), Cancel: each(pieces.Cancel),
	})
}

// countLamps tells how many lamps are free, and how many are reserved.
func countLamps(ctx context.Context, db *sql.DB) (available, reserved int64, err error) {
	err = db.QueryRowContext(ctx, `SELECT available, reserved FROM checkout_stock WHERE item = 'lamp'`).Scan(&available, &reserved)
	return available, reserved, err
}
