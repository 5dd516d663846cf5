// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"math"
	"time"

	"github.com/assent-tx/assent"
)

// Report is the demo in figures. Amounts are cents.
type Report struct {
	// Submitted transfers, and what became of them; Unresolved are those whose client never learnt it.
	Submitted  int `json:"submitted"`
	Committed  int `json:"committed"`
	Aborted    int `json:"aborted"`
	Unresolved int `json:"unresolved"`
	// InDoubt are branches whose bank does not know the outcome, at the end.
	InDoubt int `json:"in_doubt"`
	// TotalBefore is what the accounts of both banks were opened with, TotalAfter what stands in their files at the end.
	TotalBefore int64 `json:"total_before"`
	TotalAfter  int64 `json:"total_after"`
	// Kills are the processes killed.
	Kills int `json:"kills"`
	// RecoveryMS is the time from the kill of `assent serve`, or of the coordinator that leads, to the first commit of a transfer that began after it, in
	// milliseconds; the longest, if it is killed more than once; 0 if it is not.
	RecoveryMS float64 `json:"recovery_ms"`
	// TPS is transfers that ended, committed or aborted, a second, over the whole load with its faults; Seconds is how long that
	// took.
	TPS     float64 `json:"tps"`
	Seconds float64 `json:"seconds"`

	// Group is told when the banks are nodes of a group.
	*GroupReport

	// Banks are the same totals, one by one, and Faults what was killed, in order.
	Banks  []BankTotal   `json:"-"`
	Faults []FaultReport `json:"-"`
}

// BankTotal is one bank's accounts in the end, and its sums, in cents. Before is 0 where accounts do not stay with a bank.
type BankTotal struct {
	Name          string
	Accounts      int
	Before, After int64
}

// FaultReport is one kill.
type FaultReport struct {
	Victim string
	// Percent of the load had ended.
	Percent int
	// Again is the time from the kill to the first commit of a transfer that began after it, Settled that to the end of the last
	// transfer that was under way; 0 when there was none.
	Again, Settled time.Duration
}

func newReport(s scene, e *evidence, l *load) *Report {
	r := &Report{Submitted: len(e.transfers), InDoubt: e.held(), Seconds: round(l.seconds, 3)}
	for i := range e.transfers {
		switch e.transfers[i].outcome {
		case assent.Committed:
			r.Committed++
		case assent.Aborted:
			r.Aborted++
		default:
			r.Unresolved++
		}
	}
	r.TotalBefore, r.TotalAfter = e.totals()
	r.TPS = round(float64(r.Committed+r.Aborted)/l.seconds, 1)
	for _, name := range e.names() {
		r.Banks = append(r.Banks, BankTotal{name, len(e.banks[name].accounts), e.opened(name), e.banks[name].total()})
	}
	for _, a := range l.script.acts {
		if k, ok := a.(*kill); ok {
			r.killed(k, l.transfers)
		}
	}
	if n, ok := s.(*nodes); ok {
		r.GroupReport = newGroupReport(n, e, l)
	}
	return r
}

// killed adds what came of a kill.
func (r *Report) killed(k *kill, transfers []transfer) {
	again, settled := k.recovery(transfers)
	r.Kills++
	r.Faults = append(r.Faults, FaultReport{k.victim.Name, k.percent, again, settled})
	if k.leads {
		r.RecoveryMS = max(r.RecoveryMS, round(milliseconds(again), 1))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func round(x float64, digits int) float64 {
	scale := math.Pow10(digits)
	return math.Round(x*scale) / scale
}
