// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/jackc/pgx/v5/pgxpool"

	_ "github.com/go-sql-driver/mysql" // the driver "mysql"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	"github.com/assent-tx/assent/internal/databases" //nolint:depguard // throw-away servers, so that this is one command; yours run already
	"github.com/assent-tx/assent/participant/sqlstore"
)

// stores are the databases of the shop.
type stores struct {
	orders  *pgxpool.Pool
	stock   *sql.DB
	dialect sqlstore.Dialect
	// servers are those that were started here.
	servers []*databases.Server
}

// openStores connects to the databases that are named, and starts what is not.
func openStores(ctx context.Context, cfg config, dir string, out io.Writer) (s *stores, err error) {
	s = &stores{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.openOrders(ctx, cfg.postgres, out); err != nil {
		return s, err
	}
	return s, s.openStock(ctx, cfg.stock, dir, out)
}

func (s *stores) openOrders(ctx context.Context, dsn string, out io.Writer) error {
	if dsn == "" {
		server, err := databases.StartPostgres("") //nolint:contextcheck // it runs until it is closed
		if err != nil {
			return fmt.Errorf("orders are kept in PostgreSQL; name a database by -postgres, or have one to start: %w", err)
		}
		s.servers = append(s.servers, server)
		dsn = server.DSN("postgres")
		fmt.Fprintln(out, "orders:   PostgreSQL, a server for this run")
	} else {
		fmt.Fprintln(out, "orders:   PostgreSQL, as named")
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return fmt.Errorf("-postgres: %w", err)
	}
	cfg.MaxConns = places + 2 // and two to look
	s.orders, err = pgxpool.NewWithConfig(ctx, cfg)
	return err
}

// openStock opens MariaDB if it is wanted or there, and SQLite otherwise.
func (s *stores) openStock(ctx context.Context, stock, dir string, out io.Writer) (err error) {
	driver, dsn := "mysql", stock
	s.dialect = sqlstore.MySQL
	switch stock {
	case "sqlite":
		fmt.Fprintln(out, "stock:    SQLite, a file")
	case "", "mariadb":
		server, missing := databases.StartMariaDB("") //nolint:contextcheck // as above
		switch {
		case missing == nil:
			s.servers = append(s.servers, server)
			dsn, err = server.DSN("shop"), server.CreateDatabase(ctx, "shop")
			fmt.Fprintln(out, "stock:    MariaDB, a server for this run")
		case stock == "" && errors.Is(missing, databases.ErrNotInstalled):
			fmt.Fprintf(out, "stock:    SQLite, a file (%v)\n", missing)
			stock = "sqlite"
		default:
			return fmt.Errorf("stock: %w", missing)
		}
	default:
		fmt.Fprintln(out, "stock:    MySQL or MariaDB, as named")
	}
	if stock == "sqlite" {
		s.dialect, driver = sqlstore.SQLite, "sqlite"
		dsn = "file:" + filepath.Join(dir, "stock.db") + "?_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=busy_timeout(500)"
	}
	if err == nil {
		s.stock, err = sql.Open(driver, dsn)
	}
	return err
}

func (s *stores) close() error {
	var errs []error
	if s.stock != nil {
		errs = append(errs, s.stock.Close())
	}
	if s.orders != nil {
		s.orders.Close()
	}
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	return errors.Join(errs...)
}
