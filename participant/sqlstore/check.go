// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

// checkDatabase says what is wrong with the database, and warns of what is unwise. It looks at one of the pool's connections; the
// others are taken to be alike.
func (s *Store) checkDatabase(ctx context.Context) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	switch s.cfg.Dialect {
	case SQLite:
		err = s.checkSQLite(ctx, conn)
	case MySQL:
		err = s.checkMySQL(ctx, conn)
	case Postgres:
		err = s.checkPostgres(ctx, conn)
	}
	return errors.Join(err, conn.Close())
}

func (s *Store) warn(format string, args ...any) {
	s.cfg.Log.WithField("participant", s.cfg.Name).Warnf(format, args...)
}

func (s *Store) checkSQLite(ctx context.Context, conn *sql.Conn) error {
	var (
		journal                 string
		synchronous, busy, file = 0, 0, ""
	)
	for pragma, into := range map[string]any{"journal_mode": &journal, "synchronous": &synchronous, "busy_timeout": &busy} {
		if err := conn.QueryRowContext(ctx, `PRAGMA `+pragma).Scan(into); err != nil {
			return fmt.Errorf("sqlstore: is this SQLite? PRAGMA %s: %w", pragma, err)
		}
	}
	if err := conn.QueryRowContext(ctx, `SELECT file FROM pragma_database_list WHERE name = 'main'`).Scan(&file); err != nil {
		return fmt.Errorf("sqlstore: which file is open: %w", err)
	}
	if file == "" {
		s.warn("the database is in memory: a yes does not survive the process; open a file")
		return nil
	}
	switch synchronous {
	case 0:
		s.warn("synchronous is OFF: a yes may be lost when the machine fails, and the file be damaged; set PRAGMA synchronous=FULL")
	case 1:
		s.warn("synchronous is NORMAL: a yes may be lost when the machine fails; set PRAGMA synchronous=FULL")
	}
	if strings.EqualFold(journal, "off") || strings.EqualFold(journal, "memory") {
		return fmt.Errorf("sqlstore: journal_mode is %s: what was not committed survives a crash, and half of it; set PRAGMA journal_mode=WAL", journal)
	}
	if !strings.EqualFold(journal, "wal") {
		s.warn("journal_mode is %s: readers keep commits waiting; set PRAGMA journal_mode=WAL", journal)
	}
	if busy == 0 {
		s.warn("busy_timeout is 0: whoever writes to the file meanwhile makes a call fail; set PRAGMA busy_timeout, on every connection, to 1000 (ms) or so")
	}
	return nil
}

func (s *Store) checkMySQL(ctx context.Context, conn *sql.Conn) error {
	var (
		mode           string
		wait, flushing int
	)
	err := conn.QueryRowContext(ctx, `SELECT @@SESSION.sql_mode, @@SESSION.innodb_lock_wait_timeout, @@GLOBAL.innodb_flush_log_at_trx_commit`).
		Scan(&mode, &wait, &flushing)
	if err != nil {
		return fmt.Errorf("sqlstore: is this MySQL or MariaDB? %w", err)
	}
	if err := s.checkEngine(ctx, conn); err != nil {
		return err
	}
	if err := s.checkBinlog(ctx, conn); err != nil {
		return err
	}
	if !strings.Contains(mode, "STRICT_") {
		s.warn("sql_mode %q is not strict: values that do not fit are cut in silence; add STRICT_TRANS_TABLES", mode)
	}
	if time.Duration(wait)*time.Second > callTimeout {
		s.warn("innodb_lock_wait_timeout is %d s, longer than a call of the SDK (%v): who waits for a row fails instead of being told of a conflict; "+
			"set it to 1 in the data source name", wait, callTimeout)
	}
	if flushing != 1 {
		s.warn("innodb_flush_log_at_trx_commit is %d: a yes may be lost when the machine fails; set it to 1", flushing)
	}
	return nil
}

// callTimeout is participant.Config.CallTimeout's default.
const callTimeout = 10 * time.Second

// checkEngine: only InnoDB's tables take part in transactions. A server's setting may have put another one in its place.
func (s *Store) checkEngine(ctx context.Context, conn *sql.Conn) error {
	for _, table := range tables {
		var engine string
		err := conn.QueryRowContext(ctx, `SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?`, table.name).Scan(&engine)
		if err != nil {
			return fmt.Errorf("sqlstore: the engine of table %s: %w", table.name, err)
		}
		if !strings.EqualFold(engine, "InnoDB") {
			return fmt.Errorf("sqlstore: table %s is of engine %s, which knows no transactions: ALTER TABLE %s ENGINE=InnoDB", table.name, engine, table.name)
		}
	}
	return nil
}

// checkBinlog: a log of statements refuses every write below REPEATABLE READ.
func (s *Store) checkBinlog(ctx context.Context, conn *sql.Conn) error {
	var (
		on     bool
		format string
	)
	if err := conn.QueryRowContext(ctx, `SELECT @@GLOBAL.log_bin, @@SESSION.binlog_format`).Scan(&on, &format); err != nil {
		return nil //nolint:nilerr // a server that does not know the variables any more does not log statements
	}
	low := s.cfg.Isolation == sql.LevelReadCommitted || s.cfg.Isolation == sql.LevelReadUncommitted
	if on && low && strings.EqualFold(format, "STATEMENT") {
		return fmt.Errorf("sqlstore: Isolation %v is not possible while binlog_format is STATEMENT: set it to ROW or MIXED", s.cfg.Isolation)
	}
	return nil
}

func (s *Store) checkPostgres(ctx context.Context, conn *sql.Conn) error {
	var version, synchronous, fsync, readOnly string
	err := conn.QueryRowContext(ctx, `SELECT current_setting('server_version_num'), current_setting('synchronous_commit'),`+
		` current_setting('fsync'), current_setting('transaction_read_only')`).Scan(&version, &synchronous, &fsync, &readOnly)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: is this PostgreSQL? %w", err)
	case readOnly == "on":
		return errors.New("sqlstore: the database takes no writes: it is a standby, or default_transaction_read_only is on")
	}
	if synchronous == "off" || fsync == "off" {
		s.warn("synchronous_commit is %s, and fsync %s: a yes may be lost when the machine fails; set both to on", synchronous, fsync)
	}
	return nil
}
