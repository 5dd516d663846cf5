// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/participant"
)

// unnamed tells whether the connections of a pool are not to have prepared statements: there is a proxy between that gives each transaction
// another session, and its user has told pgx so.
func unnamed(pool *pgxpool.Pool) bool {
	mode := pool.Config().ConnConfig.DefaultQueryExecMode
	return mode == pgx.QueryExecModeExec || mode == pgx.QueryExecModeSimpleProtocol
}

// mark writes the marker, and then what else there is to say, in one round trip. It tells whether the transaction had written anything
// before. The marker is a prepared statement: to parse and plan it costs as much as half of the branch.
func (s *Store) mark(ctx context.Context, conn *pgx.Conn, b *participant.Branch, then string) (wrote bool, err error) {
	if s.unnamed {
		return markSimply(ctx, conn, s.sql.markerOf(b), then)
	}
	if _, err := conn.Prepare(ctx, s.sql.markerName, s.sql.marker); err != nil { // once on each connection
		return false, err
	}
	pipeline := conn.PgConn().StartPipeline(ctx)
	pipeline.SendQueryPrepared(s.sql.markerName, [][]byte{[]byte(b.Tx.String()), strconv.AppendInt(nil, b.Expires.Unix(), 10)}, nil, nil)
	if then != "" {
		pipeline.SendQueryParams(then, nil, nil, nil, nil)
	}
	err = pipeline.Sync()
	if err == nil {
		wrote, err = readMark(pipeline)
	}
	if closed := pipeline.Close(); err == nil {
		err = closed
	}
	return wrote, err
}

// readMark reads all results; the first one is the marker's.
func readMark(pipeline *pgconn.Pipeline) (wrote bool, err error) {
	for first := true; ; first = false {
		results, err := pipeline.GetResults()
		if err != nil {
			return false, err
		}
		reader, ok := results.(*pgconn.ResultReader)
		if !ok { // the end
			return wrote, nil
		}
		result := reader.Read()
		if result.Err != nil {
			return false, result.Err
		}
		if first {
			if len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
				return false, fmt.Errorf("the marker gave %d rows", len(result.Rows))
			}
			wrote = string(result.Rows[0][0]) == "t"
		}
	}
}

// markSimply does it in one message of PostgreSQL's simple protocol.
func markSimply(ctx context.Context, conn *pgx.Conn, marker, then string) (wrote bool, err error) {
	if then != "" {
		marker += separator + then
	}
	rows, err := conn.Query(ctx, marker, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	if rows.Next() {
		err = rows.Scan(&wrote)
	}
	rows.Close() // reads what follows, and its error
	return wrote, errors.Join(rows.Err(), err)
}
