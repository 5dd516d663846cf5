// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// metrics are a coordinator's. No label is unbounded: outcomes and shards, never a transaction or a key.
type metrics struct {
	outcomes        *prometheus.CounterVec
	conflicts       prometheus.Counter
	refused         prometheus.Counter
	malformed       prometheus.Counter
	heuristics      prometheus.Counter
	effects         prometheus.Counter
	records         prometheus.Counter
	logMessages     prometheus.Counter
	publishFailures prometheus.Counter
	openNow         *prometheus.GaugeVec
	rememberedNow   *prometheus.GaugeVec
	owedNow         *prometheus.GaugeVec
	oldestNow       *prometheus.GaugeVec
	leadsNow        *prometheus.GaugeVec
	takenOver       prometheus.Counter
	handedOver      prometheus.Counter
	lost            prometheus.Counter
	ringShards      prometheus.Gauge
	ringEpoch       prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "assent", Name: name, Help: help})
	}
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "assent", Name: name, Help: help}, []string{"shard"})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "assent", Name: name, Help: help})
	}
	m := &metrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "assent", Name: "transactions_total", Help: "Transactions decided, by outcome.",
		}, []string{"outcome"}),
		conflicts:       counter("conflicts_total", "Transactions aborted because they met another one on a key."),
		refused:         counter("submissions_refused_total", "Submissions that were not accepted."),
		malformed:       counter("malformed_records_total", "Records that were ignored because they are malformed."),
		heuristics:      counter("heuristics_total", "Branches whose resource decided against the outcome. Each needs a person."),
		effects:         counter("outcomes_sent_total", "Commits and rollbacks sent to participants, repeats included."),
		records:         counter("log_records_total", "Records this coordinator wrote to the logs."),
		logMessages:     counter("log_messages_total", "Messages that carried them: one durable write each."),
		publishFailures: counter("publish_failures_total", "Publishes that failed and were tried again."),
		openNow:         gauges("open_transactions", "Transactions that are not finished."),
		rememberedNow:   gauges("remembered_transactions", "Finished transactions that are remembered to recognise repeats."),
		owedNow:         gauges("owed_outcomes", "Outcomes that participants have not said to be done."),
		oldestNow:       gauges("oldest_owed_outcome_seconds", "Age of the oldest of them; 0 when there is none."),
		leadsNow:        gauges("leading", "1 where this coordinator leads the shard, 0 where it stands by."),
		takenOver:       counter("takeovers_total", "Times that this coordinator began to lead a shard."),
		handedOver:      counter("handovers_total", "Times that it handed a shard over to another one in order."),
		lost:            counter("leases_lost_total", "Times that it lost a shard's lease."),
		ringShards:      gauge("ring_shards", "Shards that the coordinators' ring gives to this one to lead."),
		ringEpoch:       gauge("ring_epoch", "Epoch of the coordinators' ring that this one goes by; 0 while it knows none."),
	}
	for _, collector := range []prometheus.Collector{
		m.outcomes, m.conflicts, m.refused, m.malformed, m.heuristics, m.effects, m.records, m.logMessages, m.publishFailures, m.openNow, m.rememberedNow, m.owedNow, m.oldestNow,
		m.leadsNow, m.takenOver, m.handedOver, m.lost, m.ringShards, m.ringEpoch,
	} {
		if err := registerer.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) decided(outcome messages.Outcome, conflict bool) {
	m.outcomes.WithLabelValues(outcome.String()).Inc()
	if conflict {
		m.conflicts.Inc()
	}
}

func (m *metrics) message(records int) {
	m.records.Add(float64(records))
	m.logMessages.Inc()
}

// open tells what is open in a shard now, in Unix milliseconds.
func (m *metrics) open(shard int, fold *protocol.Fold, delivery *protocol.Delivery, now int64) {
	open, remembered := fold.Len()
	owed, oldest := 0, now
	for _, debt := range delivery.Debts(nil) {
		owed += debt.Outcomes
		oldest = min(oldest, debt.Since)
	}
	label := strconv.Itoa(shard)
	m.openNow.WithLabelValues(label).Set(float64(open))
	m.rememberedNow.WithLabelValues(label).Set(float64(remembered))
	m.owedNow.WithLabelValues(label).Set(float64(owed))
	m.oldestNow.WithLabelValues(label).Set(float64(now-oldest) / 1000)
}

// leads tells that a shard is led here from now on.
func (m *metrics) leads(shard int) {
	m.takenOver.Inc()
	m.leadsNow.WithLabelValues(strconv.Itoa(shard)).Set(1)
}

// follows tells that it is not: what is open there is another coordinator's to tell.
func (m *metrics) follows(shard int) {
	label := strconv.Itoa(shard)
	for _, gauge := range []*prometheus.GaugeVec{m.leadsNow, m.openNow, m.rememberedNow, m.owedNow, m.oldestNow} {
		gauge.WithLabelValues(label).Set(0)
	}
}

// ring tells which ring the coordinator goes by, and how many shards that gives to it.
func (m *metrics) ring(epoch uint64, shards int) {
	m.ringEpoch.Set(float64(epoch))
	m.ringShards.Set(float64(shards))
}
