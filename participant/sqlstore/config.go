// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Dialect is the database's way to speak SQL.
type Dialect = fence.Dialect

// The dialects.
const (
	// SQLite is SQLite 3.24 (2018) and later.
	SQLite = fence.SQLite
	// Postgres is PostgreSQL 9.5 and later.
	Postgres = fence.Postgres
	// MySQL is MySQL 5.7 and later and MariaDB 10.2 and later, with InnoDB.
	MySQL = fence.MySQL
)

// Func does a part of a branch's work in a local transaction, which it neither commits nor rolls back. It uses tx alone: another
// connection waits for this one on SQLite, for ever if the pool has one. It may be called again after its transaction was
// rolled back, so what it does beside the database must bear that. Branches are those that Prepare got, also in Confirm
// and Cancel, and after a restart.
type Func func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error

// ErrNothing is what Try returns, possibly wrapped, when the branch changes nothing, and Try has written nothing: neither
// Confirm nor Cancel is called.
var ErrNothing = errors.New("sqlstore: nothing to change")

// Config says what the participant does. Name, Dialect and Try are required.
type Config struct {
	// Name is the participant's, as in participant.Config. Several participants may share a database, and several instances of one.
	Name string
	// Dialect is the database's.
	Dialect Dialect
	// Try reserves what the branch wants, so that it can be confirmed and cancelled. An error of participant.Refuse is a no; of
	// others the package comment says what they mean. It must not wait for long: what it has locked, others wait for.
	Try Func
	// Confirm makes what Try reserved final, and Cancel gives it back. They are repeated until they succeed; an error of
	// participant.Heuristic ends that, and what the call has changed is undone. nil: nothing is to be done.
	Confirm, Cancel Func
	// Isolation is the isolation level of the local transactions; default the database's own. SQLite has one only.
	Isolation sql.IsolationLevel
	// Patience is how long Prepare tries on when other transactions are in the way (a held key, a deadlock, a serialization
	// failure, a busy database) before it answers a conflict; default 500 ms. PostgreSQL waits for a lock that long, too. For
	// MySQL and SQLite that is a setting of the connection: see Open.
	Patience time.Duration
	// Keep is how long a finished branch is remembered after its outcome; default 10 minutes. Until its expiry, and a minute for
	// clocks, it is in any case, because its prepare may come again. A rollback that came before its prepare is remembered for
	// as long. A commit of a branch that was lost is told from a
	// repeated one for that long.
	Keep time.Duration
	// NoSchema: the tables are made by who administrates the database, from Schema. Open only checks that they are there.
	NoSchema bool
	// Code gives the database's code of an error that came from the driver: MySQL's number ("1213"), PostgreSQL's SQLSTATE ("40001"),
	// SQLite's (extended) result code ("5"); "" if it has none. It is needed for drivers other than go-sql-driver/mysql,
	// pgx, lib/pq and modernc.org/sqlite, whose errors are known; default nil.
	Code func(err error) string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// maxPause is the longest time for Patience and Keep.
const maxPause = 10 * 365 * 24 * time.Hour

func (cfg Config) withDefaults() (Config, error) {
	if !messages.ValidName(cfg.Name) {
		return cfg, fmt.Errorf("sqlstore: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	}
	if cfg.Try == nil {
		return cfg, errors.New("sqlstore: Try is missing")
	}
	switch cfg.Dialect {
	case SQLite, Postgres, MySQL:
	default:
		return cfg, fmt.Errorf("sqlstore: Dialect %d: want SQLite, Postgres or MySQL", cfg.Dialect)
	}
	if cfg.Dialect == SQLite && cfg.Isolation != sql.LevelDefault {
		return cfg, fmt.Errorf("sqlstore: Isolation %v: SQLite is always serializable; leave it out", cfg.Isolation)
	}
	if err := defaults(&cfg.Patience, "Patience", 500*time.Millisecond); err != nil {
		return cfg, err
	}
	if err := defaults(&cfg.Keep, "Keep", 10*time.Minute); err != nil {
		return cfg, err
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	return cfg, nil
}

func defaults(value *time.Duration, name string, usual time.Duration) error {
	if *value < 0 || *value > maxPause {
		return fmt.Errorf("sqlstore: %s %v: want 0 to %v", name, *value, maxPause)
	}
	if *value == 0 {
		*value = usual
	}
	return nil
}
