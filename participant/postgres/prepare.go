// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/participant"
)

// maxAttempts is how often a branch is executed that PostgreSQL could not serialize or ended as a deadlock, before it is a
// conflict. With pauses of up to maxPause they are over within CallTimeout.
const (
	maxAttempts = 10
	maxPause    = 100 * time.Millisecond
)

// Prepare executes the branch in a transaction of its own and prepares that. (docs/protocol.md, a participant, step 4.)
//
// What a crash leaves, of this process or of the database: before PREPARE TRANSACTION nothing, since the transaction ends with its
// connection; after it a prepared transaction, which has its marker in it. The prepare comes again then, or InDoubt finds it.
func (s *Store) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	case <-ctx.Done():
		return 0, fmt.Errorf("postgres: waiting for a connection: %w", ctx.Err())
	}
	vote, err := s.attempts(ctx, b)
	if err == nil || !holdsNothing(err) {
		return vote, err
	}
	// Another instance may have prepared the branch, or committed it, before it came here again; then what this one met may be that one's
	// doing, and the answer has been given.
	switch found, probeErr := s.probe(ctx, b.Tx); {
	case probeErr != nil:
		return 0, fmt.Errorf("%w (it was to be answered with: %v)", probeErr, err) //nolint:errorlint // which must not be taken for the answer
	case found != absent:
		return participant.Yes, nil
	default:
		return 0, err
	}
}

// attempts executes the branch until the database can serialize it.
func (s *Store) attempts(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	for attempt := 0; ; attempt++ {
		vote, err := s.attempt(ctx, b)
		if err == nil || !again(err) {
			return vote, judge(err)
		}
		if attempt == maxAttempts-1 {
			return 0, participant.Conflict(fmt.Errorf("postgres: after %d attempts: %w", maxAttempts, err))
		}
		pause := time.NewTimer(rand.N(min(time.Millisecond<<attempt, maxPause)))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return 0, fmt.Errorf("postgres: %w, after %w", ctx.Err(), err)
		}
	}
}

// attempt executes the branch once, on a connection that works: after a restart of the database all that are pooled may be cut.
func (s *Store) attempt(ctx context.Context, b *participant.Branch) (vote participant.Vote, err error) {
	for range s.connections + 1 {
		var broken bool
		if vote, broken, err = s.attemptOn(ctx, b); !broken || ctx.Err() != nil {
			break
		}
	}
	return vote, err
}

// attemptOn executes the branch on one connection, which goes back when the transaction is prepared, or undone. It tells whether the connection
// was found to be broken.
func (s *Store) attemptOn(ctx context.Context, b *participant.Branch) (vote participant.Vote, broken bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, false, &failure{"a connection", err}
	}
	defer conn.Release() // one that is in a transaction still is closed
	tx := &branchTx{conn: conn.Conn(), begin: s.sql.begin}
	if vote, err = s.execute(ctx, tx, b); err != nil {
		s.undo(ctx, conn)
	}
	return vote, err != nil && tx.cut, err
}

// execute takes the keys, lets the application work, and prepares what it did.
func (s *Store) execute(ctx context.Context, tx *branchTx, b *participant.Branch) (participant.Vote, error) {
	if err := s.lock(ctx, tx, keyLocks(s.cfg.Name, b.Keys())); err != nil {
		return 0, err
	}
	if err := s.fence(ctx, tx, b); err != nil {
		return 0, err
	}
	if err := s.cfg.Do(ctx, tx, b); err != nil {
		return 0, err
	}
	if err := tx.open(ctx); err != nil { // if there was no statement
		return 0, &failure{"beginning", err}
	}
	switch tx.conn.PgConn().TxStatus() {
	case 'T':
	case 'E':
		return 0, errors.New("postgres: Config.Do gave nil, though a statement of it had failed: its error is the branch's")
	default:
		return 0, participant.Refuse(errors.New("postgres: Config.Do ended the transaction, which only the outcome may: what it did may be committed"))
	}
	return s.finish(ctx, tx.conn, b)
}

// finish writes the marker, last, so that it waits as little as possible and for as little; and prepares the transaction. Both go in
// one round trip, unless this is likely to be a branch that changes nothing.
func (s *Store) finish(ctx context.Context, conn *pgx.Conn, b *participant.Branch) (participant.Vote, error) {
	readable := !b.Isolated() // one that must hold its keys is prepared, whatever it did
	likely := readable && s.readOnly.Load()
	then := ""
	if !likely {
		then = s.sql.prepare(b.Tx)
	}
	wrote, err := s.mark(ctx, conn, b, then)
	if err != nil {
		return 0, &failure{"preparing", err}
	}
	if readable {
		s.readOnly.Store(!wrote)
	}
	next := ""
	switch {
	case readable && !wrote && likely:
		next = "ROLLBACK"
	case readable && !wrote:
		next = s.sql.rollback(b.Tx)
	case likely:
		next = s.sql.prepare(b.Tx)
	}
	if next != "" {
		if _, err := conn.Exec(ctx, next, pgx.QueryExecModeSimpleProtocol); err != nil {
			return 0, &failure{"preparing", err}
		}
	}
	if readable && !wrote {
		return participant.ReadOnly, nil
	}
	crash.Here("postgres.prepared")
	return participant.Yes, nil
}

// undo ends the transaction of a branch that is not prepared, also when ctx has ended. If that fails, the connection is closed when it is
// released, and the database ends the transaction with it.
func (s *Store) undo(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		s.log.WithError(err).Debug("a connection is given up")
	}
}
