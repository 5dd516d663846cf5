// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/assent-tx/assent/locks"
)

// DefaultTable is the table of tokens when SQL.Table is empty.
const DefaultTable = "assent_fences"

// maxSQLKey is the longest key, in bytes: what MySQL can index, with room to spare.
const maxSQLKey = 1024

// Dialect is the database's way to speak SQL.
type Dialect int

// The dialects.
const (
	// SQLite is SQLite 3.24 (2018) and later.
	SQLite Dialect = iota + 1
	// Postgres is PostgreSQL 9.5 and later, and what speaks like it; its placeholders are $1, $2.
	Postgres
	// MySQL is MySQL 5.7 and later, and MariaDB 10.2 and later, with InnoDB.
	MySQL
)

// SQL checks tokens in the transactions that they are to fence. The database keeps the greatest token of each key in a
// table with the columns name and token (the text of locks.Token.String). A value is ready, can be copied, and is safe for concurrent use.
//
//	tx, err := db.BeginTx(ctx, nil)
//	…
//	if err := fences.Check(ctx, tx, "account/1", token); err != nil {
//		return err // with tx rolled back
//	}
//	… what the lock protects …
//	return tx.Commit()
//
// It holds at every isolation level: the check is one statement that locks the key's row until the transaction
// ends, so that checked transactions of one key come one after another. A database that would have to break that instead
// (SQLite's "database is locked", a serialization failure, a deadlock) ends Check or a later statement with the
// driver's error, and the caller runs the whole transaction again, as always.
type SQL struct {
	// Dialect is required.
	Dialect Dialect
	// Table is a name, or schema and name with a dot between: letters, digits and _ of ASCII. Default DefaultTable.
	Table string
}

// Create makes the table if it is not there. Who makes it otherwise needs name as the primary key, and both columns
// compared byte by byte, which is what Create sees to.
func (s SQL) Create(ctx context.Context, db *sql.DB) error {
	text, err := s.statements()
	if err != nil {
		return err
	}
	if _, err = db.ExecContext(ctx, text.create); err != nil {
		// PostgreSQL lets IF NOT EXISTS fail when somebody else makes the same table at the same time: then it is there now.
		_, err = db.ExecContext(ctx, text.create)
	}
	if err != nil {
		return fmt.Errorf("fence: making table %s: %w", s.table(), err)
	}
	return nil
}

// Check accepts a token that is equal to or greater than the greatest of the key, and keeps it, if tx commits. An older one
// is refused with a *StaleError. Call it in the transaction that writes, before it writes anything, and roll that back after
// any error. The key has 1 to 1024 bytes of UTF-8 without NUL.
func (s SQL) Check(ctx context.Context, tx *sql.Tx, key string, token locks.Token) error {
	text, err := s.statements()
	if err != nil {
		return err
	}
	if err := checkSQLKey(key); err != nil {
		return err
	}
	if err := checkToken(key, token); err != nil {
		return err
	}
	if s.Dialect == MySQL {
		return s.checkByReading(ctx, tx, text, key, token)
	}
	result, err := tx.ExecContext(ctx, text.raise, key, token.String())
	if err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	raised, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	if raised > 0 {
		return nil
	}
	newest, err := s.newest(ctx, tx, text, key)
	if err != nil {
		return err
	}
	return &StaleError{key, token, newest}
}

// checkByReading is Check for MySQL, whose count of affected rows is ambiguous: whether a row that already had the value counts depends on a
// setting of the connection.
func (s SQL) checkByReading(ctx context.Context, tx *sql.Tx, text *sqlText, key string, token locks.Token) error {
	if _, err := tx.ExecContext(ctx, text.raise, key, token.String(), token.String(), token.String()); err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	newest, err := s.newest(ctx, tx, text, key)
	if err == nil && newest.Compare(token) > 0 {
		err = &StaleError{key, token, newest}
	}
	return err
}

func (s SQL) newest(ctx context.Context, tx *sql.Tx, text *sqlText, key string) (locks.Token, error) {
	var kept string
	err := tx.QueryRowContext(ctx, text.read, key).Scan(&kept)
	if err != nil {
		return locks.Token{}, fmt.Errorf("fence: %q: %w", key, err)
	}
	return s.parse(kept, key)
}

// parse reads a token that the table has.
func (s SQL) parse(kept, key string) (locks.Token, error) {
	newest, err := locks.ParseToken(kept)
	if err != nil {
		return locks.Token{}, fmt.Errorf("fence: table %s has something else than a token for %q: %w", s.table(), key, err)
	}
	return newest, nil
}

func checkSQLKey(key string) error {
	if len(key) < 1 || len(key) > maxSQLKey || !utf8.ValidString(key) || strings.ContainsRune(key, 0) {
		return fmt.Errorf("fence: key %.40q: want 1 to %d bytes of UTF-8 without NUL: %w", key, maxSQLKey, ErrInvalid)
	}
	return nil
}

// sqlText is what a dialect's statements are.
type sqlText struct {
	create string
	raise  string // keeps the token unless a greater one is there, and locks the row either way
	read   string
}

// tableName is what needs no quotes.
var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?$`)

func (s SQL) table() string {
	if s.Table == "" {
		return DefaultTable
	}
	return s.Table
}

var errDialect = errors.New("want SQLite, Postgres or MySQL")

// statements are one upsert and one read. An UPDATE with an INSERT after it, when there was no row, would need more: two
// transactions that are a key's first would meet in the INSERT, where PostgreSQL ends the one and InnoDB, whose
// UPDATEs have locked the gap that both want to fill, finds a deadlock.
func (s SQL) statements() (*sqlText, error) {
	table := s.table()
	if !tableName.MatchString(table) {
		return nil, fmt.Errorf("fence: SQL.Table %.80q: want [A-Za-z0-9_], also as schema.table: %w", table, ErrInvalid)
	}
	switch s.Dialect {
	case SQLite:
		return &sqlText{
			create: `CREATE TABLE IF NOT EXISTS ` + table + ` (name TEXT NOT NULL PRIMARY KEY, token TEXT NOT NULL)`,
			raise: `INSERT INTO ` + table + ` AS f (name, token) VALUES (?, ?)` +
				` ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token <= excluded.token`,
			read: `SELECT token FROM ` + table + ` WHERE name = ?`,
		}, nil
	case Postgres:
		// A row that the WHERE passes over is locked all the same.
		return &sqlText{
			create: `CREATE TABLE IF NOT EXISTS ` + table + ` (name text COLLATE "C" NOT NULL PRIMARY KEY, token text COLLATE "C" NOT NULL)`,
			raise: `INSERT INTO ` + table + ` AS f (name, token) VALUES ($1, $2)` +
				` ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token COLLATE "C" <= excluded.token COLLATE "C"`,
			read: `SELECT token FROM ` + table + ` WHERE name = $1`,
		}, nil
	case MySQL:
		// Not INSERT IGNORE: it also ignores that a key is too long, and cuts it. FOR UPDATE reads what is, not the snapshot.
		return &sqlText{
			create: `CREATE TABLE IF NOT EXISTS ` + table + ` (name VARBINARY(1024) NOT NULL PRIMARY KEY,` +
				` token CHAR(33) CHARACTER SET ascii COLLATE ascii_bin NOT NULL) ENGINE=InnoDB`,
			raise: `INSERT INTO ` + table + ` (name, token) VALUES (?, ?) ON DUPLICATE KEY UPDATE token = IF(token < ?, ?, token)`,
			read:  `SELECT token FROM ` + table + ` WHERE name = ? FOR UPDATE`,
		}, nil
	default:
		return nil, fmt.Errorf("fence: SQL.Dialect %d: %w: %w", s.Dialect, errDialect, ErrInvalid)
	}
}
