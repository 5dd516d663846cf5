// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"
)

// Stats is what an operator should watch.
type Stats struct {
	// Prepared is how many branches of this participant the database holds prepared, of all instances. Those of
	// transactions that are being decided are among them; they are there for milliseconds.
	Prepared int
	// Oldest is the age of the oldest one; zero when there is none. One that is minutes old is an orphan: it holds its locks,
	// and keeps VACUUM from removing what was deleted since.
	Oldest time.Duration
}

// Stats asks the database. It costs a statement, and is meant to be called every few seconds at most.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var stats Stats
	var seconds float64
	if err := s.pool.QueryRow(ctx, s.sql.stats, s.sql.prefix).Scan(&stats.Prepared, &seconds); err != nil {
		return Stats{}, &failure{"what is prepared", err}
	}
	stats.Oldest = time.Duration(seconds * float64(time.Second))
	return stats, nil
}
