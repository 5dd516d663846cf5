// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/locks/fence"
	"github.com/assent-tx/assent/participant"
)

// fence refuses a branch whose client has lost a lock that it took for it: its token is older than one that was seen here. Tokens are
// seen when the branch commits.
func (s *Store) fence(ctx context.Context, tx pgx.Tx, b *participant.Branch) error {
	for _, lock := range b.Locks {
		token, err := locks.ParseToken(lock.Token)
		if err != nil {
			return participant.Refuse(fmt.Errorf("postgres: the token of lock %.40q: %w", lock.Key, err))
		}
		query := func(text string, arguments ...any) (values []string, err error) {
			rows, err := tx.Query(ctx, text, arguments...)
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowTo[string])
		}
		err = s.fences.CheckBy(query, lock.Key, token)
		switch {
		case errors.Is(err, fence.ErrStale):
			return participant.Conflict(err)
		case errors.Is(err, fence.ErrInvalid):
			return participant.Refuse(err)
		case err != nil:
			return &failure{"fencing", err}
		}
	}
	return nil
}
