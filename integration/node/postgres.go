// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/postgres"
)

// openPostgres gives the store of a bank whose accounts are a table. Each branch leaves its transaction's id in another one.
func openPostgres(ctx context.Context, name, dsn string, log *logrus.Logger) (store *postgres.Store, end func(), err error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, nil, err
	}
	store, err = postgres.Open(ctx, pool, postgres.Config{Name: name, Do: move, Log: log})
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return store, pool.Close, nil
}

func move(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
	record, err := decode(b)
	if err != nil {
		return err
	}
	for _, m := range record.Moves {
		changed, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", m.Account, m.Cents)
		if err != nil {
			return err
		}
		if changed.RowsAffected() != 1 {
			return participant.Refuse(fmt.Errorf("no account %d", m.Account))
		}
	}
	_, err = tx.Exec(ctx, "INSERT INTO entries VALUES ($1)", b.Tx.String())
	return err
}
