// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/postgres"
)

// Order is an operation's payload for the service orders.
type Order struct {
	ID       int    `json:"id"`
	Customer string `json:"customer"`
	Item     string `json:"item"`
	Pieces   int    `json:"pieces"`
	Cents    int64  `json:"cents"`
}

// places is how many orders are prepared at once: so many connections, and places for prepared transactions, are needed.
const places = 16

// openOrders is the service that has the orders, in PostgreSQL. The database's own rules say what is an order: what breaks one is
// refused, with the rule's name.
func openOrders(ctx context.Context, pool *pgxpool.Pool) (*postgres.Store, error) {
	_, err := pool.Exec(ctx, `
		DROP TABLE IF EXISTS checkout_orders, checkout_customers;
		CREATE TABLE checkout_customers (name text PRIMARY KEY);
		CREATE TABLE checkout_orders (
			id int PRIMARY KEY,
			customer text NOT NULL REFERENCES checkout_customers,
			item text NOT NULL,
			pieces int NOT NULL CHECK (pieces > 0),
			cents bigint NOT NULL CHECK (cents >= 0)
		);
		INSERT INTO checkout_customers VALUES ('carol'), ('dave')`)
	if err != nil {
		return nil, fmt.Errorf("the tables of orders: %w", err)
	}
	return postgres.Open(ctx, pool, postgres.Config{Name: "orders", Concurrency: places, Do: writeOrders})
}

// writeOrders runs in the transaction that is prepared.
func writeOrders(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
	for i := range b.Operations {
		var o Order
		if err := b.Decode(i, &o); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO checkout_orders VALUES ($1, $2, $3, $4, $5)`, o.ID, o.Customer, o.Item, o.Pieces, o.Cents)
		if err != nil {
			return err
		}
	}
	return nil
}

// listOrders are those that everyone sees.
func listOrders(ctx context.Context, pool *pgxpool.Pool) (all []Order, err error) {
	rows, err := pool.Query(ctx, `SELECT id, customer, item, pieces, cents FROM checkout_orders ORDER BY id`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Order])
}
