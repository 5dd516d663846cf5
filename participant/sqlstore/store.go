// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/metrics"
)

// Store is a participant's handler on a database. Its methods may be called by many goroutines at once, and by many instances
// on the same database.
type Store struct {
	db     *sql.DB
	cfg    Config
	say    *statements
	fences fence.SQL
	// group shares transactions; nil where each has its own.
	group   *group
	metrics *metrics.Collector[Stats]
}

var (
	_ participant.Handler   = (*Store)(nil)
	_ participant.InDoubt   = (*Store)(nil)
	_ participant.Watermark = (*Store)(nil)
	_ participant.Memory    = (*Store)(nil)
	_ prometheus.Collector  = (*Store)(nil)
)

// The states of a branch's row.
const (
	tried     = "tried"
	held      = "held"
	confirmed = "confirmed"
	cancelled = "cancelled"
	// heuristic: the application has decided otherwise, for the reason in the row.
	heuristic = "heuristic"
)

// Open makes the tables if they are not there, and checks the database: what is needed is an error that says what to change, what
// is only unwise is a warning in the log. The database stays the caller's, and must outlive the participant. Let it keep as many
// connections as are used at once (SetMaxIdleConns: participant.Config.Concurrency, or that twice; database/sql keeps two, and opens
// the others again and again). SQLite needs one, and a few for readers. What to set in the driver's data source name:
//
//   - SQLite: a time to wait for other processes (modernc.org/sqlite: _pragma=busy_timeout(1000)); journal_mode=WAL, so that
//     readers do not keep commits waiting; synchronous=FULL, which is SQLite's default: with less a yes may be lost;
//   - MySQL: innodb_lock_wait_timeout=1 (seconds; the default of 50 is longer than a call of the SDK), a strict sql_mode. At
//     many branches at once Config.Isolation READ COMMITTED locks fewer gaps;
//   - PostgreSQL: nothing.
func Open(ctx context.Context, db *sql.DB, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, cfg: cfg, say: newStatements(cfg.Dialect), fences: fence.SQL{Dialect: cfg.Dialect}}
	s.metrics = metrics.New(cfg.Name, s.Stats, figures)
	if cfg.Dialect == SQLite {
		s.group = &group{db: db, begin: s.say.begin, busy: func(err error) bool { return s.judge(err) == inTheWay }}
	}
	if cfg.NoSchema {
		err = checkTables(ctx, db)
	} else {
		err = makeTables(ctx, db, cfg.Dialect)
	}
	if err != nil {
		return nil, err
	}
	return s, s.checkDatabase(ctx)
}

// row is what is known of a branch.
type row struct {
	state, reason string
	record        []byte
}

// look reads a branch's row, and keeps others from changing it until tx ends; nil if there is none.
func (s *Store) look(ctx context.Context, tx *sql.Tx, id messages.ID) (*row, error) {
	var r row
	err := tx.QueryRowContext(ctx, s.say.look, s.cfg.Name, id.String()).Scan(&r.state, &r.record, &r.reason)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // no row is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	switch r.state {
	case tried, held, confirmed, cancelled, heuristic:
		return &r, nil
	}
	return nil, fmt.Errorf("sqlstore: the state of transaction %s in assent_branches is %.40q: written by a newer version, or by hand", id, r.state)
}

// InDoubt implements participant.InDoubt: the branches that wait for their outcome, with their keys.
func (s *Store) InDoubt(ctx context.Context) (all []participant.Prepared, err error) {
	rows, err := s.db.QueryContext(ctx, s.say.inDoubt, s.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			text   string
			record []byte
		)
		if err := rows.Scan(&text, &record); err != nil {
			return nil, fmt.Errorf("sqlstore: %w", err)
		}
		id, err := messages.ParseID(text)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: assent_branches: %w", err)
		}
		b, err := s.branch(id, record)
		if err != nil {
			return nil, err
		}
		all = append(all, participant.Prepared{Tx: id, Keys: b.Keys()})
	}
	return all, rows.Err()
}

// Remembers implements participant.Memory: whether there is a row, or there may have been one that was reaped. The row first: one that
// is reaped between the two looks is behind the reaper then.
func (s *Store) Remembers(ctx context.Context, tx messages.ID) (bool, error) {
	var rows int
	if err := s.db.QueryRowContext(ctx, s.say.known, s.cfg.Name, tx.String()).Scan(&rows); err != nil {
		return false, fmt.Errorf("sqlstore: %w", err)
	}
	if rows > 0 {
		return true, nil
	}
	return s.reapedThrough(ctx, s.db, tx)
}

// reapedThrough tells whether a transaction is at most as old as what was reaped.
func (s *Store) reapedThrough(ctx context.Context, from querier, tx messages.ID) (bool, error) {
	var through int64
	err := from.QueryRowContext(ctx, s.say.through, s.cfg.Name).Scan(&through)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("sqlstore: %w", err)
	}
	return tx.UnixMilli() <= through, nil
}

// querier is a database, or a transaction of it.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// LocksKeys says that instances keep each other from the keys of what they have prepared: they are in the database.
func (s *Store) LocksKeys() bool { return true }

func (s *Store) log(id messages.ID) *logrus.Entry {
	return s.cfg.Log.WithField("tx", id).WithField("participant", s.cfg.Name)
}
