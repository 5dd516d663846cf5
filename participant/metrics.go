// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/internal/metrics"
)

var figures = []metrics.Metric[KeyStats]{
	{
		Name: "assent_keys_holding", Help: "Branches that hold keys at this instance.",
		Type: prometheus.GaugeValue, Value: func(s KeyStats) float64 { return float64(s.Holding) },
	},
	{
		Name: "assent_keys_waiting", Help: "Branches that wait for keys.",
		Type: prometheus.GaugeValue, Value: func(s KeyStats) float64 { return float64(s.Waiting) },
	},
	{
		Name: "assent_keys_oldest_waiting_seconds", Help: "For how long the one has waited that has waited longest; 0 when none waits.",
		Type: prometheus.GaugeValue, Value: func(s KeyStats) float64 { return s.Oldest.Seconds() },
	},
	{
		Name: "assent_keys_waited_total", Help: "Branches that had to wait for keys.",
		Type: prometheus.CounterValue, Value: func(s KeyStats) float64 { return float64(s.Waited) },
	},
	{
		Name: "assent_keys_wounded_total", Help: "Branches that gave way, or were to, to an older one.",
		Type: prometheus.CounterValue, Value: func(s KeyStats) float64 { return float64(s.Wounded) },
	},
	{
		Name: "assent_keys_crowded_total", Help: "Branches that were turned away because too many waited.",
		Type: prometheus.CounterValue, Value: func(s KeyStats) float64 { return float64(s.Crowded) },
	},
	{
		Name: "assent_keys_turned_away_total", Help: "Branches that met a held key and were not to wait (NoWait).",
		Type: prometheus.CounterValue, Value: func(s KeyStats) float64 { return float64(s.TurnedAway) },
	},
}

var _ prometheus.Collector = (*Participant)(nil)

// Describe implements prometheus.Collector.
func (p *Participant) Describe(to chan<- *prometheus.Desc) { p.metrics.Describe(to) }

// Collect implements prometheus.Collector: it gives KeyStats, with the participant's name as a label.
func (p *Participant) Collect(to chan<- prometheus.Metric) { p.metrics.Collect(to) }
