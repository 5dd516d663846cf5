// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/sqlstore"
)

// Order is what a client asks of the shop.
type Order struct {
	SKU    string `json:"sku"`
	Pieces int64  `json:"pieces"`
}

// openShop is all that a shop needs to take part in transactions: which columns are what.
func openShop(ctx context.Context, db *sql.DB) (*sqlstore.Store, error) {
	stock := sqlstore.Quantity{Dialect: sqlstore.SQLite, Table: "stock", ID: "sku", Available: "available", Reserved: "reserved"}
	return sqlstore.Open(ctx, db, sqlstore.Config{
		Name: "shop", Dialect: sqlstore.SQLite,
		Try:     sqlstore.Each(func(ctx context.Context, tx *sql.Tx, o Order) error { return stock.Try(ctx, tx, o.SKU, o.Pieces) }),
		Confirm: sqlstore.Each(func(ctx context.Context, tx *sql.Tx, o Order) error { return stock.Confirm(ctx, tx, o.SKU, o.Pieces) }),
		Cancel:  sqlstore.Each(func(ctx context.Context, tx *sql.Tx, o Order) error { return stock.Cancel(ctx, tx, o.SKU, o.Pieces) }),
	})
}

func openDatabase(ctx context.Context, dir string) *sql.DB {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "shop.db")+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(wal)")
	must(err)
	_, err = db.ExecContext(ctx, `CREATE TABLE stock (sku TEXT PRIMARY KEY, available INTEGER NOT NULL, reserved INTEGER NOT NULL)`)
	must(err)
	_, err = db.ExecContext(ctx, `INSERT INTO stock VALUES ('widget', 5, 0)`)
	must(err)
	return db
}

// A shop on SQLite, and, for the example, everything else that it needs, in one process.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	dir, err := os.MkdirTemp("", "assent")
	must(err)
	defer os.RemoveAll(dir)
	server, err := embedded.Start(embedded.Config{Dir: filepath.Join(dir, "nats")})
	must(err)
	nc, err := server.Connect()
	must(err)
	c, err := coordinator.New(nc, coordinator.Config{})
	must(err)
	var running sync.WaitGroup
	running.Go(func() { must(c.Run(ctx)) })

	db := openDatabase(ctx, dir)
	store, err := openShop(ctx, db)
	must(err)
	p, err := participant.New(nc, participant.Config{Name: "shop", Handler: store})
	must(err)
	running.Go(func() { must(p.Run(ctx)) })
	<-p.Ready()

	client, err := assent.New(nc, assent.Config{})
	must(err)
	for _, pieces := range []int64{3, 4} {
		tx := client.Begin()
		tx.Enlist("shop", Order{"widget", pieces}, assent.Keys("widget"))
		var aborted *assent.AbortedError
		switch err := tx.Commit(ctx); {
		case err == nil:
			fmt.Println(pieces, "pieces: sold")
		case errors.As(err, &aborted):
			fmt.Printf("%d pieces: %s says %s\n", pieces, aborted.Participant, aborted.Reason)
		default:
			fmt.Println(err)
		}
	}
	client.Close()
	stop()
	running.Wait()
	nc.Close()
	must(errors.Join(db.Close(), server.Close()))
	// Output:
	// 3 pieces: sold
	// 4 pieces: shop says stock widget: 4 wanted, 2 available
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
