// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
)

// tap stands between database/sql and a driver: a test hears of everything that goes to the database, before it does and after
// it did, and can put a fault in its place.
type tap struct {
	inner driver.Connector

	mu sync.Mutex
	// steps are what went by: "before BEGIN", "after BEGIN", …
	steps []string
	// hook is called for each, and its error ends the call; nil for none.
	hook func(step string) error
}

// openTapped opens a database through a tap.
func (on *system) openTapped(t testing.TB, dsn string) (*sql.DB, *tap) {
	t.Helper()
	if on == onMariaDB { // so that a statement is one call of the driver
		cfg, err := mysql.ParseDSN(dsn)
		must(t, err)
		cfg.InterpolateParams = true
		dsn = cfg.FormatDSN()
	}
	db, err := sql.Open(on.driver, dsn)
	must(t, err)
	inner := db.Driver()
	must(t, db.Close())
	tap := &tap{inner: connector{inner, dsn}}
	db = sql.OpenDB(tap)
	t.Cleanup(func() { db.Close() })
	return db, tap
}

type connector struct {
	driver driver.Driver
	dsn    string
}

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c connector) Driver() driver.Driver                        { return c.driver }

func (t *tap) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := t.inner.Connect(ctx)
	if err != nil {
		return nil, err
	}
	full, ok := conn.(fullConn)
	if !ok {
		return nil, fmt.Errorf("a %T lacks a method", conn)
	}
	return &tappedConn{fullConn: full, tap: t}, nil
}

func (t *tap) Driver() driver.Driver { return t.inner.Driver() }

// set changes what is done with each step, and forgets those that went by.
func (t *tap) set(hook func(step string) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hook, t.steps = hook, nil
}

func (t *tap) taken() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.steps
}

func (t *tap) pass(step string) error {
	t.mu.Lock()
	t.steps = append(t.steps, step)
	hook := t.hook
	t.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(step)
}

// fullConn is what the drivers' connections can do.
type fullConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ExecerContext
	driver.QueryerContext
}

type tappedConn struct {
	fullConn
	tap *tap
	// dead: a fault has ended the connection.
	dead bool
}

// around does something between two steps. A fault ends the connection, as the end of its process would.
func around[T any](c *tappedConn, what string, do func() (T, error)) (T, error) {
	var none T
	what = what[:min(60, len(what))]
	if c.dead {
		return none, errDead
	}
	if err := c.tap.pass("before " + what); err != nil {
		return none, c.die(err)
	}
	v, err := do()
	if err != nil {
		return none, err
	}
	if err := c.tap.pass("after " + what); err != nil {
		if rows, ok := any(v).(driver.Rows); ok {
			_ = rows.Close()
		}
		return none, c.die(err)
	}
	return v, nil
}

func (c *tappedConn) die(err error) error {
	c.dead = true
	return errors.Join(err, c.fullConn.Close())
}

func (c *tappedConn) Close() error {
	if c.dead {
		return nil
	}
	return c.fullConn.Close()
}

func (c *tappedConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	tx, err := around(c, "BEGIN", func() (driver.Tx, error) { return c.fullConn.BeginTx(ctx, options) })
	if err != nil {
		return nil, err
	}
	return &tappedTx{tx, c}, nil
}

func (c *tappedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return around(c, query, func() (driver.Result, error) { return c.fullConn.ExecContext(ctx, query, args) })
}

func (c *tappedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return around(c, query, func() (driver.Rows, error) { return c.fullConn.QueryContext(ctx, query, args) })
}

func (c *tappedConn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.fullConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}

func (c *tappedConn) ResetSession(ctx context.Context) error {
	if resetter, ok := c.fullConn.(driver.SessionResetter); ok {
		return resetter.ResetSession(ctx)
	}
	return nil
}

func (c *tappedConn) IsValid() bool {
	validator, ok := c.fullConn.(driver.Validator)
	return !c.dead && (!ok || validator.IsValid())
}

type tappedTx struct {
	driver.Tx
	conn *tappedConn
}

func (t *tappedTx) Commit() error {
	_, err := around(t.conn, "COMMIT", func() (struct{}, error) { return struct{}{}, t.Tx.Commit() })
	return err
}

func (t *tappedTx) Rollback() error {
	if t.conn.dead {
		return errDead
	}
	return t.Tx.Rollback()
}

// errDead is what every call says after the process has crashed.
var errDead = errors.New("crashed")

// crashAt makes everything fail from a step on, the nth that goes by, as if the process had crashed there.
func crashAt(n int) func(step string) error {
	var mu sync.Mutex
	passed := 0
	return func(string) error {
		mu.Lock()
		defer mu.Unlock()
		passed++
		if passed > n {
			return errDead
		}
		return nil
	}
}
