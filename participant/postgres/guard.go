// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// errOutcome is what the application gets that ends a branch's transaction itself.
var errOutcome = errors.New("postgres: the outcome ends a branch's transaction, not the function that executes it")

// branchTx is the transaction that an application gets. It can do everything but end it. (A deferred Rollback, as one is used to
// write it, does nothing.) BEGIN goes with the first statement, which saves a round trip, one of four.
type branchTx struct {
	conn  *pgx.Conn
	begin string
	begun bool
	// cut: the connection broke before the first answer, so another one may do.
	cut bool
	// unsent: the application's first statement could not even be sent.
	unsent bool
	// tx is pgx's own, for what only that can do; nil until it is wanted.
	tx pgx.Tx
}

var _ pgx.Tx = (*branchTx)(nil)

func (*branchTx) Commit(context.Context) error   { return errOutcome }
func (*branchTx) Rollback(context.Context) error { return errOutcome }

// Conn is the connection, in the transaction.
func (t *branchTx) Conn() *pgx.Conn {
	_ = t.open(context.Background()) // the next statement meets the error
	return t.conn
}

// open begins the transaction, if no statement has done so.
func (t *branchTx) open(ctx context.Context) error {
	if t.begun {
		return nil
	}
	_, err := t.conn.Exec(ctx, t.begin)
	return t.first(err)
}

// first notes how the first message went. As long as nothing has begun, the next statement tries to begin.
func (t *branchTx) first(err error) error {
	t.begun = err == nil || t.conn.PgConn().TxStatus() != 'I'
	t.cut = err != nil && !t.unsent && t.conn.IsClosed()
	return err
}

// encoded notes whether a batch could be encoded. If not, pgx closes the connection, and that is the application's mistake: another
// connection would not do. (A connection may also be found to be broken while a statement of the batch is prepared.)
func (t *branchTx) encoded(err error) {
	network := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.As(err, new(*net.OpError)) || sqlState(err) != ""
	t.unsent = t.unsent || errors.As(err, new(pgx.ErrPreprocessingBatch)) && !network
}

func (t *branchTx) Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error) {
	switch {
	case t.begun:
		return t.conn.Exec(ctx, sql, arguments...)
	case len(arguments) == 0: // perhaps several statements
		tag, err := t.conn.Exec(ctx, t.begin+separator+sql)
		return tag, t.first(err)
	case isOption(arguments[0]):
		if err := t.open(ctx); err != nil {
			return pgconn.CommandTag{}, err
		}
		return t.conn.Exec(ctx, sql, arguments...)
	}
	batch := &pgx.Batch{}
	statements := strings.Split(t.begin, separator)
	for _, statement := range statements {
		batch.Queue(statement)
	}
	batch.Queue(sql, arguments...)
	results := t.conn.SendBatch(ctx, batch)
	tag, err := pgconn.CommandTag{}, error(nil)
	for range len(statements) + 1 {
		if tag, err = results.Exec(); err != nil {
			break
		}
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	t.encoded(err)
	return tag, t.first(err)
}

// isOption tells whether the first argument is no parameter, but says how to execute the statement: a batch takes none.
func isOption(argument any) bool {
	switch argument.(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
		return true
	default:
		return false
	}
}

func (t *branchTx) Query(ctx context.Context, sql string, arguments ...any) (pgx.Rows, error) {
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t.conn.Query(ctx, sql, arguments...)
}

func (t *branchTx) QueryRow(ctx context.Context, sql string, arguments ...any) pgx.Row {
	if err := t.open(ctx); err != nil {
		return failedRow{err}
	}
	return t.conn.QueryRow(ctx, sql, arguments...)
}

// failedRow is the row of a query that could not be made.
type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

func (t *branchTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	if err := t.open(ctx); err != nil {
		return nil, err
	}
	return t.conn.Prepare(ctx, name, sql)
}

func (t *branchTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if err := t.open(ctx); err != nil {
		return 0, err
	}
	return t.conn.CopyFrom(ctx, table, columns, source)
}

func (t *branchTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	_ = t.open(ctx) // then the connection is broken, and says so once more
	return t.conn.SendBatch(ctx, b)
}

// Begin makes a savepoint.
func (t *branchTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := t.own(ctx); err != nil {
		return nil, err
	}
	return t.tx.Begin(ctx)
}

// LargeObjects are those of the transaction.
func (t *branchTx) LargeObjects() pgx.LargeObjects {
	if err := t.own(context.Background()); err != nil {
		return pgx.LargeObjects{}
	}
	return t.tx.LargeObjects()
}

// own makes pgx's own transaction of this one. It insists on a statement that begins it.
func (t *branchTx) own(ctx context.Context) error {
	if t.tx != nil {
		return nil
	}
	err := t.open(ctx)
	if err == nil {
		t.tx, err = t.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: "SELECT"})
	}
	return err
}
