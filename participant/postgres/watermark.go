// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
)

// Watermark gives what SetWatermark kept of a log.
func (s *Store) Watermark(ctx context.Context, stream string) (incarnation string, sequence uint64, err error) {
	var kept int64
	err = s.pool.QueryRow(ctx, `SELECT incarnation, sequence FROM `+s.sql.watermarks+` WHERE participant = $1 AND stream = $2`, s.cfg.Name, stream).
		Scan(&incarnation, &kept)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, &failure{"reading the watermark", err}
	}
	if kept < 0 {
		return "", 0, fmt.Errorf("postgres: table %s has the sequence %d for stream %s", s.sql.watermarks, kept, stream)
	}
	return incarnation, uint64(kept), nil
}

// SetWatermark keeps how far a log had come. It comes every few seconds while votes are cast, which is also when markers become
// old: it reaps some.
func (s *Store) SetWatermark(ctx context.Context, stream, incarnation string, sequence uint64) error {
	if sequence > math.MaxInt64 {
		return fmt.Errorf("postgres: sequence %d of stream %s is beyond what a bigint holds", sequence, stream)
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO `+s.sql.watermarks+` AS w (participant, stream, incarnation, sequence) VALUES ($1, $2, $3, $4) `+
		`ON CONFLICT (participant, stream) DO UPDATE SET incarnation = excluded.incarnation, sequence = `+
		`CASE WHEN w.incarnation = excluded.incarnation THEN greatest(w.sequence, excluded.sequence) ELSE excluded.sequence END`,
		s.cfg.Name, stream, incarnation, int64(sequence))
	if err != nil {
		return &failure{"keeping the watermark", err}
	}
	if err := s.reap(ctx); err != nil && ctx.Err() == nil {
		s.log.WithError(err).Warn("old markers could not be removed; it is tried again")
	}
	return nil
}
