// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Commit commits what was prepared. A transaction that is not prepared any more is committed already, which its marker says; or
// somebody rolled it back by hand, or it was lost: that is heuristic. (docs/protocol.md, a participant, step 7.)
//
// A crash before COMMIT PREPARED is durable leaves the transaction prepared, and one after it the marker: the outcome comes again,
// and either is found.
func (s *Store) Commit(ctx context.Context, tx messages.ID) error {
	found, err := s.end(ctx, tx, s.sql.commit(tx))
	switch {
	case err != nil:
		return err
	case found == ended || found == committed:
		s.reaper.committed.Add(1)
		return nil
	case found == prepared:
		return fmt.Errorf("postgres: %s was not there, and is now; it is tried again", s.sql.gid(tx))
	default:
		return participant.Heuristic(fmt.Errorf("postgres: %s is to be committed, but is neither prepared nor committed in the database: "+
			"it was rolled back by hand, or the database was restored to a time before it was prepared", s.sql.gid(tx)))
	}
}

// Rollback undoes what was prepared. One that is not prepared is over, or was never here; unless its marker is there: then
// somebody committed it by hand, which is heuristic.
func (s *Store) Rollback(ctx context.Context, tx messages.ID) error {
	found, err := s.end(ctx, tx, s.sql.rollback(tx))
	switch {
	case err != nil:
		return err
	case found == prepared: // by an instance that died, whose statement reached the database late
		return fmt.Errorf("postgres: %s was not there, and is now; it is tried again", s.sql.gid(tx))
	case found == committed:
		return participant.Heuristic(fmt.Errorf("postgres: %s is to be rolled back, but is committed in the database: somebody committed it by hand; "+
			"or it was over long ago, and the coordinator has forgotten it (then `assent tx show` does not know it, and all is well)", s.sql.gid(tx)))
	default:
		return nil
	}
}

// end ends the prepared transaction, or finds out what there is instead. Any connection may do it, as long as the user is the one
// who prepared.
func (s *Store) end(ctx context.Context, tx messages.ID, statement string) (state, error) {
	var err error
	for range s.connections + 1 { // all that are pooled may be cut
		_, err = s.pool.Exec(ctx, statement, pgx.QueryExecModeSimpleProtocol)
		switch {
		case err == nil:
			return ended, nil
		case sqlState(err) == undefinedObject:
			return s.probe(ctx, tx)
		case !cut(err) || ctx.Err() != nil:
			return 0, &failure{"ending " + s.sql.gid(tx), err}
		}
	}
	return 0, &failure{"ending " + s.sql.gid(tx), err}
}

// state is what the database has of a branch.
type state int

const (
	ended     state = iota + 1 // just now
	absent                     // neither prepared nor committed, nor about to be prepared by anybody who has come to the marker
	prepared                   // and not ended
	committed                  // says the marker
)

// probe finds out. Whoever is between the branch's marker and the end of PREPARE TRANSACTION is waited for, for as long as LockTimeout.
func (s *Store) probe(ctx context.Context, tx messages.ID) (state, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return 0, &failure{"a connection", err}
	}
	defer conn.Release()
	results, err := conn.Conn().PgConn().Exec(ctx, s.sql.probe(tx)).ReadAll()
	if err != nil {
		s.undo(ctx, conn)
		return 0, &failure{"looking for " + s.sql.gid(tx), err}
	}
	if len(results) != 5 || len(results[3].Rows) != 1 || len(results[3].Rows[0]) != 2 {
		return 0, fmt.Errorf("postgres: looking for %s: %d results, want 5", s.sql.gid(tx), len(results))
	}
	marked, held := string(results[3].Rows[0][0]) == "t", string(results[3].Rows[0][1]) == "t"
	switch {
	case len(results[2].Rows) == 1:
		return absent, nil
	case marked:
		return committed, nil
	case held:
		return prepared, nil
	default: // it was prepared, and was rolled back between the two looks
		return 0, fmt.Errorf("postgres: looking for %s: it changed meanwhile", s.sql.gid(tx))
	}
}
