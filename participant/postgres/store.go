// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/metrics"
)

// Store is a participant's handler whose branches are prepared transactions of one PostgreSQL database. See Open. Its
// methods are safe for concurrent use; the SDK calls them.
type Store struct {
	cfg  Config
	pool *pgxpool.Pool
	log  *logrus.Entry
	sql  *statements
	// fences keeps the tokens of clients' locks.
	fences  fence.SQL
	unnamed bool
	// connections is how many the pool has at most.
	connections int
	// places bounds the connections that prepares take, so that one is left for the outcomes that free what they wait for.
	places chan struct{}
	// snapshots: transactions see the database as it was at their first statement (REPEATABLE READ and SERIALIZABLE).
	snapshots bool
	// readOnly: the last branch that could be read-only was. A guess, by which a round trip is saved.
	readOnly atomic.Bool
	reaper   reaper
	metrics  *metrics.Collector[Stats]
}

// The interfaces that a Store has.
var (
	_ participant.Handler   = (*Store)(nil)
	_ participant.InDoubt   = (*Store)(nil)
	_ participant.Watermark = (*Store)(nil)
	_ participant.Memory    = (*Store)(nil)
	_ prometheus.Collector  = (*Store)(nil)
)

// Open checks the database, makes the tables that it needs (unless Config.NoCreate), and gives a Store. The pool stays the
// caller's, must outlive the participant's Run, and should be the Store's own: it needs two connections at least, and is
// fastest with about as many as Config.Concurrency. When something is missing, the error says what to change, and how.
func Open(ctx context.Context, pool *pgxpool.Pool, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	most := int(pool.Config().MaxConns)
	if most < 2 {
		return nil, errors.New("postgres: the pool has one connection: want at least 2 (pool_max_conns=2), one to prepare and one to commit")
	}
	s := &Store{
		cfg: cfg, pool: pool, log: cfg.Log.WithField("participant", cfg.Name), sql: newStatements(&cfg), fences: cfg.fences(),
		connections: most, unnamed: unnamed(pool), places: make(chan struct{}, most-max(1, most/4)),
	}
	s.metrics = metrics.New(cfg.Name, s.Stats, figures)
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// LocksKeys tells the SDK that several instances exclude each other: keys are locked in the database.
func (s *Store) LocksKeys() bool { return true }

// InDoubt gives the branches of this participant that the database holds prepared. Their keys are locked by the
// database.
func (s *Store) InDoubt(ctx context.Context) ([]participant.Prepared, error) {
	rows, err := s.pool.Query(ctx, s.sql.inDoubt, s.sql.prefix)
	if err != nil {
		return nil, fmt.Errorf("postgres: what is prepared: %w", err)
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("postgres: what is prepared: %w", err)
	}
	branches := make([]participant.Prepared, 0, len(gids))
	for _, gid := range gids {
		tx, err := messages.ParseID(strings.TrimPrefix(gid, s.sql.prefix))
		if err != nil {
			s.log.WithField("gid", gid).Warn("a prepared transaction has a name as this participant's have, but none of its ids: it is left alone")
			continue
		}
		branches = append(branches, participant.Prepared{Tx: tx})
	}
	return branches, nil
}

// Remembers tells whether the database has a branch prepared, or its marker. It looks twice: a branch that another instance commits
// between the looks at the one and the other is in neither.
func (s *Store) Remembers(ctx context.Context, tx messages.ID) (found bool, err error) {
	for range 2 {
		if err := s.pool.QueryRow(ctx, s.sql.remembers, s.cfg.Name, tx.String(), s.sql.gid(tx)).Scan(&found); err != nil {
			return false, fmt.Errorf("postgres: looking for %s: %w", s.sql.gid(tx), err)
		}
		if found {
			return true, nil
		}
	}
	return false, nil
}
