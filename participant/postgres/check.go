// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/locks/fence"
)

// minVersion is the first with what the marker is made of: pg_current_xact_id_if_assigned and pg_visible_in_snapshot.
const minVersion = 130000

// facts are what Open asks the server.
type facts struct {
	User           string
	Database       string
	Version        int
	Places         int    // max_prepared_transactions
	Used           int    // of the places
	Fsync          string // "on"
	Level          string // default_transaction_isolation
	Recovering     bool   // a standby
	Strings        string // standard_conforming_strings
	MaxConnections int
	LockTimeout    int // of a session, in milliseconds
}

const askFacts = `SELECT current_user::text, current_database()::text, current_setting('server_version_num')::int, current_setting('max_prepared_transactions')::int,
	(SELECT count(*) FROM pg_prepared_xacts)::int, current_setting('fsync'), current_setting('default_transaction_isolation'),
	pg_is_in_recovery(), current_setting('standard_conforming_strings'), current_setting('max_connections')::int,
	(SELECT setting FROM pg_settings WHERE name = 'lock_timeout')::int`

// check finds out whether the database can do what a Store needs, and makes the tables.
func (s *Store) check(ctx context.Context) error {
	var f facts
	err := s.pool.QueryRow(ctx, askFacts).Scan(&f.User, &f.Database, &f.Version, &f.Places, &f.Used, &f.Fsync, &f.Level, &f.Recovering, &f.Strings, &f.MaxConnections, &f.LockTimeout)
	if err != nil {
		return &failure{"asking the server for its settings", err}
	}
	if err := f.check(&s.cfg, int(s.pool.Config().MaxConns)); err != nil {
		return err
	}
	if f.Fsync != "on" {
		s.log.Warn("the server has fsync off: a crash of its machine loses votes and outcomes that others rely on")
	}
	level := pgx.TxIsoLevel(f.Level)
	if s.cfg.Isolation != "" {
		level = s.cfg.Isolation
	}
	if int64(f.LockTimeout) == s.cfg.LockTimeout.Milliseconds() {
		s.sql.beginOnly() // the connections have it already
	}
	s.snapshots = level == pgx.RepeatableRead || level == pgx.Serializable
	if !s.cfg.NoCreate {
		if err := s.create(ctx, f.User); err != nil {
			return err
		}
	}
	return s.checkTables(ctx, f.User)
}

// check judges the settings.
func (f *facts) check(cfg *Config, connections int) error {
	switch {
	case f.Version < minVersion:
		return fmt.Errorf("postgres: the server is version %d.%d: want 13 or later", f.Version/10000, f.Version%10000)
	case f.Recovering:
		return errors.New("postgres: the server is a standby, which takes no writes: connect to the primary (target_session_attrs=read-write)")
	case f.Strings != "on":
		return errors.New("postgres: standard_conforming_strings is off: set it on for this role (ALTER ROLE " + f.User + " SET standard_conforming_strings = on)")
	case f.Places == 0:
		return fmt.Errorf("postgres: the server prepares no transactions: max_prepared_transactions is 0. Run ALTER SYSTEM SET max_prepared_transactions = %d; and restart the server",
			4*cfg.Concurrency)
	case f.Places < cfg.Concurrency:
		return fmt.Errorf("postgres: max_prepared_transactions is %d, less than the %d branches that are prepared at once (Config.Concurrency). Run ALTER SYSTEM SET max_prepared_transactions = %d; "+
			"and restart the server; or lower Concurrency, here and in participant.Config", f.Places, cfg.Concurrency, 4*cfg.Concurrency)
	case connections > f.MaxConnections:
		return fmt.Errorf("postgres: the pool may open %d connections, the server takes %d (max_connections): lower pool_max_conns, or raise that", connections, f.MaxConnections)
	}
	return nil
}

// schema is the SQL of the tables, as docs/stores.md has it.
func (s *Store) schema() ([]string, error) {
	fences, err := s.fences.CreateStatement()
	if err != nil {
		return nil, err
	}
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + s.sql.markers + ` (participant text COLLATE "C" NOT NULL, tx uuid NOT NULL, xid xid8 NOT NULL, expires timestamptz NOT NULL, wrote boolean NOT NULL, PRIMARY KEY (tx, participant))`,
		`CREATE TABLE IF NOT EXISTS ` + s.sql.watermarks + ` (participant text COLLATE "C" NOT NULL, stream text COLLATE "C" NOT NULL, incarnation text NOT NULL, sequence bigint NOT NULL, PRIMARY KEY (participant, stream))`,
		fences,
	}, nil
}

// create makes the tables that are not there.
func (s *Store) create(ctx context.Context, user string) error {
	schema, err := s.schema()
	if err != nil {
		return err
	}
	for _, statement := range schema {
		if _, err = s.pool.Exec(ctx, statement); err != nil {
			// IF NOT EXISTS fails when somebody else makes the same table at the same time: then it is there now.
			_, err = s.pool.Exec(ctx, statement)
		}
		if sqlState(err) == "42501" {
			return fmt.Errorf("postgres: role %s may not make the tables (%w). Let it (GRANT CREATE ON SCHEMA %s TO %s), or make them as docs/stores.md says and set Config.NoCreate",
				user, err, s.schemaName(), user)
		}
		if err != nil {
			return &failure{"making the tables", err}
		}
	}
	return nil
}

func (s *Store) schemaName() string {
	if s.cfg.Schema == "" {
		return "public"
	}
	return s.cfg.Schema
}

// checkTables finds out whether the tables are there, and may be used.
func (s *Store) checkTables(ctx context.Context, user string) error {
	for _, table := range []string{s.sql.markers, s.sql.watermarks, s.fences.Table} {
		var there bool
		var lacking []string
		err := s.pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL, ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p `+
			`WHERE to_regclass($1) IS NOT NULL AND NOT has_table_privilege(to_regclass($1), p))`, table).Scan(&there, &lacking)
		switch {
		case err != nil:
			return &failure{"looking at table " + table, err}
		case !there:
			return fmt.Errorf("postgres: there is no table %s: make it as docs/stores.md says, or let Open do it (without Config.NoCreate)", table)
		case len(lacking) > 0:
			return fmt.Errorf("postgres: role %s may not use table %s. Run GRANT %s ON %s TO %s", user, table, strings.Join(lacking, ", "), table, user)
		}
	}
	return nil
}

func (cfg *Config) fences() fence.SQL {
	return fence.SQL{Dialect: fence.Postgres, Table: cfg.table(fencesTable)}
}
