// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/internal/metrics"
)

var figures = []metrics.Metric[Stats]{
	{
		Name: "assent_kv_open", Help: "Branches over key-value buckets that are prepared and not applied.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return float64(s.Open) },
	},
	{
		Name: "assent_kv_oldest_seconds", Help: "Age of the oldest transaction of which a branch over key-value buckets is open; 0 when none is.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return metrics.Age(s.Oldest) },
	},
	branches("prepared", func(s Stats) uint64 { return s.Prepared }),
	branches("conflict", func(s Stats) uint64 { return s.Conflicts }),
	branches("applied", func(s Stats) uint64 { return s.Applied }),
	{
		Name: "assent_kv_overtaken_total", Help: "Values of transactions in whose way a plain writer's value was.",
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(s.Overtaken) },
	},
	{
		Name: "assent_kv_apply_failures_total", Help: "Attempts to apply a committed branch over key-value buckets that failed.",
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(s.Failed) },
	},
}

func branches(fate string, n func(Stats) uint64) metrics.Metric[Stats] {
	return metrics.Metric[Stats]{
		Name: "assent_kv_branches_total", Help: "Branches over key-value buckets, by what became of them.", Labels: prometheus.Labels{"fate": fate},
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(n(s)) },
	}
}

var _ prometheus.Collector = (*Participant)(nil)

// Describe implements prometheus.Collector.
func (p *Participant) Describe(to chan<- *prometheus.Desc) { p.metrics.Describe(to) }

// Collect implements prometheus.Collector: it gives Stats, with the participant's name as a label.
func (p *Participant) Collect(to chan<- prometheus.Metric) { p.metrics.Collect(to) }
