// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/internal/metrics"
)

// Stats is how much is in doubt, for whoever watches the database.
type Stats struct {
	// InDoubt is how many branches wait for their outcome.
	InDoubt int
	// Oldest is for how long the oldest of them has; 0 if there is none.
	Oldest time.Duration
}

// Stats counts what is in doubt. A branch that is so for much longer than its transaction may last is worth a look at
// `assent participants`: perhaps no instance of the participant runs.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var (
		st      Stats
		changed sql.NullInt64
	)
	if err := s.db.QueryRowContext(ctx, s.say.stats, s.cfg.Name).Scan(&st.InDoubt, &changed); err != nil {
		return st, fmt.Errorf("sqlstore: %w", err)
	}
	if changed.Valid {
		st.Oldest = max(0, time.Since(time.UnixMilli(changed.Int64)))
	}
	return st, nil
}

var figures = []metrics.Metric[Stats]{
	{
		Name: "assent_sqlstore_in_doubt", Help: "Branches that wait for their outcome in the database, of all instances.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return float64(s.InDoubt) },
	},
	{
		Name: "assent_sqlstore_oldest_seconds", Help: "For how long the oldest branch has waited for its outcome; 0 when none waits.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return s.Oldest.Seconds() },
	},
}

// Describe implements prometheus.Collector.
func (s *Store) Describe(to chan<- *prometheus.Desc) { s.metrics.Describe(to) }

// Collect implements prometheus.Collector: it gives Stats, with the participant's name as a label. The database has two seconds to
// answer; when it does not, or with an error, that is an error of the scrape. Those who scrape at once share one statement.
func (s *Store) Collect(to chan<- prometheus.Metric) { s.metrics.Collect(to) }
