// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/participant/internal/metrics"
)

var figures = []metrics.Metric[Stats]{
	{
		Name: "assent_outbox_open", Help: "Transactions with messages that are prepared and not settled.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return float64(s.Open) },
	},
	{
		Name: "assent_outbox_oldest_seconds", Help: "Age of the oldest transaction with messages that is not settled; 0 when there is none.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return metrics.Age(s.Oldest) },
	},
	{
		Name: "assent_outbox_published_total", Help: "Messages that were stored in a stream, or sent to core NATS.",
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(s.Published) },
	},
	{
		Name: "assent_outbox_stuck", Help: "Committed transactions of which a message could not be published at the last attempt.",
		Type: prometheus.GaugeValue, Value: func(s Stats) float64 { return float64(s.Stuck) },
	},
	{
		Name: "assent_outbox_unsure_total", Help: "Transactions of which a message may have been published twice.",
		Type: prometheus.CounterValue, Value: func(s Stats) float64 { return float64(s.Unsure) },
	},
}

var _ prometheus.Collector = (*Outbox)(nil)

// Describe implements prometheus.Collector.
func (o *Outbox) Describe(to chan<- *prometheus.Desc) { o.metrics.Describe(to) }

// Collect implements prometheus.Collector: it gives Stats, with the outbox's name as the label participant.
func (o *Outbox) Collect(to chan<- prometheus.Metric) { o.metrics.Collect(to) }
