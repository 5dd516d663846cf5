// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tx/assent/messages"
)

// What one look of the reaper deletes at the most: so many rows in so many transactions, which hold their locks shortly.
const (
	reapRows  = 256
	reapTimes = 32
)

// Watermark implements participant.Watermark.
func (s *Store) Watermark(ctx context.Context, stream string) (incarnation string, sequence uint64, err error) {
	err = s.db.QueryRowContext(ctx, s.say.mark, s.cfg.Name, stream).Scan(&incarnation, &sequence)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", 0, fmt.Errorf("sqlstore: %w", err)
	}
	return incarnation, sequence, nil
}

// SetWatermark implements participant.Watermark. It comes every second or so while there is work, beside it, and so it is also the
// occasion to reap.
func (s *Store) SetWatermark(ctx context.Context, stream, incarnation string, sequence uint64) error {
	err := s.persist(ctx, func() error {
		return s.local(ctx, func(ctx context.Context, tx *sql.Tx) (bool, error) {
			_, err := tx.ExecContext(ctx, s.say.setMark, s.cfg.Name, stream, incarnation, int64(sequence))
			return err == nil, err
		})
	})
	if err != nil {
		return s.failed(err)
	}
	if _, err := s.Reap(ctx); err != nil {
		s.cfg.Log.WithError(err).WithField("participant", s.cfg.Name).Warn("finished branches could not be forgotten; it is tried again")
	}
	return nil
}

// Reap deletes the rows of branches that were finished long enough ago (Config.Keep), at most 8192 of them, and gives their number.
// The SDK has it called while there is work; branches that wait for their outcome are never deleted.
func (s *Store) Reap(ctx context.Context) (reaped int, err error) {
	now := time.Now()
	for range reapTimes {
		n, err := s.reap(ctx, now)
		reaped += n
		if err != nil || n < reapRows {
			return reaped, err
		}
	}
	return reaped, nil
}

// reap deletes some rows, and notes how far, in one local transaction.
func (s *Store) reap(ctx context.Context, now time.Time) (n int, err error) {
	err = s.local(ctx, func(ctx context.Context, tx *sql.Tx) (keep bool, err error) {
		ids, err := s.due(ctx, tx, now)
		if n = len(ids); err != nil || n == 0 {
			return false, err
		}
		through := int64(0)
		args := []any{s.cfg.Name, now.UnixMilli()}
		for _, id := range ids {
			through = max(through, id.UnixMilli())
			args = append(args, id.String())
		}
		// How far comes first: two instances that reap meet here, and one waits for the other.
		if _, err := tx.ExecContext(ctx, s.say.reap, s.cfg.Name, through); err != nil {
			return false, err
		}
		_, err = tx.ExecContext(ctx, s.say.bury(n), args...)
		return err == nil, err
	})
	if err != nil {
		return 0, s.failed(err)
	}
	return n, nil
}

func (s *Store) due(ctx context.Context, tx *sql.Tx, now time.Time) (ids []messages.ID, err error) {
	rows, err := tx.QueryContext(ctx, s.say.due, s.cfg.Name, now.UnixMilli(), reapRows)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		id, err := messages.ParseID(text)
		if err != nil {
			return nil, fmt.Errorf("assent_branches: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// bury deletes n rows that are due: participant, now, ids.
func (s *statements) bury(n int) string {
	return numbered(s.dialect, `DELETE FROM assent_branches WHERE participant = ? AND forget < ? AND `+over+` AND tx IN (`+list(`?`, n)+`)`)
}
