// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Who holds keys and who waits shows until the outcomes are applied.
func TestMetrics(t *testing.T) {
	inBubble(t, func(w *world) {
		l := w.openLocker()
		p, r := w.start(w.connect(), participant.Config{Name: "p", Handler: l.h})
		r.ready(p.Ready())
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(p)
		young := l.begin(2, "a")
		old := l.waits(1, time.Minute, "a")
		l.conflict(young)
		const told = `
# HELP assent_keys_crowded_total Branches that were turned away because too many waited.
# TYPE assent_keys_crowded_total counter
assent_keys_crowded_total{participant="p"} 0
# HELP assent_keys_holding Branches that hold keys at this instance.
# TYPE assent_keys_holding gauge
assent_keys_holding{participant="p"} 1
# HELP assent_keys_turned_away_total Branches that met a held key and were not to wait (NoWait).
# TYPE assent_keys_turned_away_total counter
assent_keys_turned_away_total{participant="p"} 0
# HELP assent_keys_waited_total Branches that had to wait for keys.
# TYPE assent_keys_waited_total counter
assent_keys_waited_total{participant="p"} 1
# HELP assent_keys_waiting Branches that wait for keys.
# TYPE assent_keys_waiting gauge
assent_keys_waiting{participant="p"} 1
# HELP assent_keys_wounded_total Branches that gave way, or were to, to an older one.
# TYPE assent_keys_wounded_total counter
assent_keys_wounded_total{participant="p"} 1
`
		names := []string{"assent_keys_crowded_total", "assent_keys_holding", "assent_keys_turned_away_total", "assent_keys_waited_total", "assent_keys_waiting", "assent_keys_wounded_total"}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(told), names...); err != nil {
			t.Error(err)
		}
		oldest := func() (seconds float64) {
			families, err := registry.Gather()
			must(t, err)
			for _, family := range families {
				if family.GetName() == "assent_keys_oldest_waiting_seconds" {
					seconds = family.GetMetric()[0].GetGauge().GetValue()
				}
			}
			return seconds
		}
		before := oldest()
		<-time.After(5 * time.Second)                                                // the bubble's
		if aged := oldest() - before; before < 0.1 || aged < 4.999 || aged > 5.001 { // the grace, after which it wounds
			t.Errorf("it waits for %v s, and %v s more after 5 s", before, aged)
		}
		l.end(young, messages.Aborted)
		l.prepared(old)
		l.end(old, messages.Committed)
		ended := strings.NewReplacer(`holding{participant="p"} 1`, `holding{participant="p"} 0`, `waiting{participant="p"} 1`, `waiting{participant="p"} 0`).Replace(told)
		if err := testutil.GatherAndCompare(registry, strings.NewReader(ended), names...); err != nil {
			t.Error(err)
		}
		if oldest() != 0 {
			t.Errorf("nobody waits, for %v s", oldest())
		}
		problems, err := testutil.GatherAndLint(registry)
		must(t, err)
		for _, problem := range problems {
			t.Errorf("%+v", problem)
		}
	})
}
