// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/assent-tx/assent/locks/fence"
)

// Schema is what makes the tables, a statement each; all can be repeated. Who makes the tables otherwise needs the same keys, and
// texts that are compared byte by byte. nil for a dialect that is none.
//
//	assent_branches    a row for each transaction: what was done for it here. branch is the prepare record while the state is
//	                   tried or held, and empty afterwards. changed and forget are Unix milliseconds; forget is when the row may be
//	                   deleted, NULL while it may not
//	assent_keys        a row for each key that is held: by the transaction in holder, or by so many in shared mode
//	assent_reaped      the youngest transaction whose row was deleted, by the Unix milliseconds in its id
//	assent_watermarks  how far each log had come when it took this participant's last vote (the same as participant/postgres's)
//	assent_fences      locks/fence's: the newest token that was seen of each lock of clients (Tx.Lock)
func Schema(d Dialect) []string {
	fences, err := fence.SQL{Dialect: d}.CreateStatement()
	if err != nil {
		return nil // no such dialect
	}
	return append(schema(d), fences)
}

func schema(d Dialect) []string {
	switch d {
	case SQLite:
		return []string{
			`CREATE TABLE IF NOT EXISTS assent_branches (participant TEXT NOT NULL, tx TEXT NOT NULL, state TEXT NOT NULL, branch BLOB NOT NULL,` +
				` reason TEXT NOT NULL, changed INTEGER NOT NULL, forget INTEGER, PRIMARY KEY (participant, tx)) WITHOUT ROWID`,
			`CREATE INDEX IF NOT EXISTS assent_branches_forget ON assent_branches (participant, forget)`,
			`CREATE TABLE IF NOT EXISTS assent_keys (participant TEXT NOT NULL, name BLOB NOT NULL, holder TEXT NOT NULL, shared INTEGER NOT NULL,` +
				` PRIMARY KEY (participant, name)) WITHOUT ROWID`,
			`CREATE TABLE IF NOT EXISTS assent_reaped (participant TEXT NOT NULL PRIMARY KEY, through INTEGER NOT NULL)`,
			`CREATE TABLE IF NOT EXISTS assent_watermarks (participant TEXT NOT NULL, stream TEXT NOT NULL, incarnation TEXT NOT NULL,` +
				` sequence INTEGER NOT NULL, PRIMARY KEY (participant, stream))`,
		}
	case Postgres:
		return []string{
			`CREATE TABLE IF NOT EXISTS assent_branches (participant text COLLATE "C" NOT NULL, tx text COLLATE "C" NOT NULL, state text COLLATE "C" NOT NULL,` +
				` branch bytea NOT NULL, reason text NOT NULL, changed bigint NOT NULL, forget bigint, PRIMARY KEY (participant, tx))`,
			`CREATE INDEX IF NOT EXISTS assent_branches_forget ON assent_branches (participant, forget)`,
			`CREATE TABLE IF NOT EXISTS assent_keys (participant text COLLATE "C" NOT NULL, name bytea NOT NULL, holder text COLLATE "C" NOT NULL,` +
				` shared bigint NOT NULL, PRIMARY KEY (participant, name))`,
			`CREATE TABLE IF NOT EXISTS assent_reaped (participant text COLLATE "C" NOT NULL PRIMARY KEY, through bigint NOT NULL)`,
			`CREATE TABLE IF NOT EXISTS assent_watermarks (participant text COLLATE "C" NOT NULL, stream text COLLATE "C" NOT NULL,` +
				` incarnation text NOT NULL, sequence bigint NOT NULL, PRIMARY KEY (participant, stream))`,
		}
	case MySQL:
		const ascii = ` CHARACTER SET ascii COLLATE ascii_bin NOT NULL`
		return []string{
			`CREATE TABLE IF NOT EXISTS assent_branches (participant VARCHAR(64)` + ascii + `, tx CHAR(36)` + ascii + `, state VARCHAR(16)` + ascii + `,` +
				` branch LONGBLOB NOT NULL, reason VARBINARY(1024) NOT NULL, changed BIGINT NOT NULL, forget BIGINT,` +
				` PRIMARY KEY (participant, tx), KEY assent_branches_forget (participant, forget)) ENGINE=InnoDB`,
			`CREATE TABLE IF NOT EXISTS assent_keys (participant VARCHAR(64)` + ascii + `, name VARBINARY(1100) NOT NULL, holder VARCHAR(36)` + ascii + `,` +
				` shared BIGINT NOT NULL, PRIMARY KEY (participant, name)) ENGINE=InnoDB`,
			`CREATE TABLE IF NOT EXISTS assent_reaped (participant VARCHAR(64)` + ascii + ` PRIMARY KEY, through BIGINT NOT NULL) ENGINE=InnoDB`,
			`CREATE TABLE IF NOT EXISTS assent_watermarks (participant VARCHAR(64)` + ascii + `, stream VARCHAR(255)` + ascii + `,` +
				` incarnation VARCHAR(64)` + ascii + `, sequence BIGINT NOT NULL, PRIMARY KEY (participant, stream)) ENGINE=InnoDB`,
		}
	default:
		return nil
	}
}

// tables are those of Schema, each with the columns that are needed.
var tables = [...]struct{ name, columns string }{
	{"assent_branches", "participant, tx, state, branch, reason, changed, forget"},
	{"assent_keys", "participant, name, holder, shared"},
	{"assent_reaped", "participant, through"},
	{"assent_watermarks", "participant, stream, incarnation, sequence"},
	{fence.DefaultTable, "name, token"},
}

// makeTables makes what is not there. What is there is not touched, so that a user who may not make tables can use them.
func makeTables(ctx context.Context, db *sql.DB, d Dialect) error {
	if checkTables(ctx, db) == nil {
		return nil
	}
	for _, statement := range Schema(d) {
		if err := twice(ctx, db, statement); err != nil {
			return fmt.Errorf("sqlstore: making the tables (or set NoSchema and have them made from Schema): %w", err)
		}
	}
	return nil
}

// twice, because PostgreSQL lets IF NOT EXISTS fail when somebody else makes the same at the same time: then it is there now.
func twice(ctx context.Context, db *sql.DB, statement string) error {
	_, err := db.ExecContext(ctx, statement)
	if err != nil {
		_, err = db.ExecContext(ctx, statement)
	}
	return err
}

// checkTables tells whether the tables are there and can be read.
func checkTables(ctx context.Context, db *sql.DB) error {
	for _, table := range tables {
		rows, err := db.QueryContext(ctx, `SELECT `+table.columns+` FROM `+table.name+` WHERE 1 = 0`)
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		if err != nil {
			return fmt.Errorf("sqlstore: table %s, which is to be made from Schema (or leave NoSchema out): %w", table.name, err)
		}
	}
	return nil
}
