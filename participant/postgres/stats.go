// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/internal/metrics"
)

// Stats is what an operator should watch.
type Stats struct {
	// Prepared is how many branches of this participant the database holds prepared, of all instances. Those of
	// transactions that are being decided are among them; they are there for milliseconds.
	Prepared int
	// Oldest is the age of the oldest one; zero when there is none. One that is minutes old is an orphan: it holds its locks,
	// and keeps VACUUM from removing what was deleted since.
	Oldest time.Duration
	// Removed counts the markers that this Store has removed since Open, because they were old.
	Removed uint64
}

// Stats asks the database. It costs a statement, and is meant to be called every few seconds at most.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var stats Stats
	var seconds float64
	if err := s.pool.QueryRow(ctx, s.sql.stats, s.sql.prefix).Scan(&stats.Prepared, &seconds); err != nil {
		return Stats{}, &failure{"what is prepared", err}
	}
	stats.Oldest, stats.Removed = time.Duration(seconds*float64(time.Second)), s.reaper.removed.Load()
	return stats, nil
}

var figures = []metrics.Metric[Stats]{
	{
		Name: "assent_postgres_prepared", Help: "Branches that the database holds prepared, of all instances.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return float64(s.Prepared) },
	},
	{
		Name: "assent_postgres_oldest_seconds", Help: "Age of the oldest branch that the database holds prepared; 0 when there is none.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return s.Oldest.Seconds() },
	},
	{
		Name: "assent_postgres_markers_removed_total", Help: "Markers of committed branches that this instance removed because they were old.",
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(s.Removed) },
	},
}

// Describe implements prometheus.Collector.
func (s *Store) Describe(to chan<- *prometheus.Desc) { s.metrics.Describe(to) }

// Collect implements prometheus.Collector: it gives Stats, with the participant's name as a label. The database has two seconds to
// answer; when it does not, or with an error, that is an error of the scrape. Those who scrape at once share one statement.
func (s *Store) Collect(to chan<- prometheus.Metric) { s.metrics.Collect(to) }
