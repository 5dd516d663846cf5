// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"maps"
	"slices"

	"github.com/assent-tx/assent"
)

// check compares what everybody says and gives what does not agree, each with its transaction or account.
func (e *evidence) check() (mismatches []string) {
	say := func(format string, args ...any) { mismatches = append(mismatches, fmt.Sprintf(format, args...)) }
	known := make(map[assent.ID]bool, len(e.transfers))
	for i := range e.transfers {
		t := &e.transfers[i]
		known[t.id] = true
		e.checkTransfer(t, say)
	}
	for id := range e.log {
		if !known[id] {
			say("transaction %s: the log has it, and no client submitted it", id)
		}
	}
	if e.open > 0 {
		say("%d transactions are open in the log", e.open)
	}
	if e.inDoubt > 0 {
		say("%d branches are in doubt, says the coordinator", e.inDoubt)
	}
	for i := range e.banks {
		e.checkBank(i, known, say)
	}
	if before, after := e.totals(); before != after {
		say("the banks had %s together, and have %s", Euros(before), Euros(after))
	}
	return mismatches
}

// checkTransfer compares the client's, the log's and both banks' word on one transfer.
func (e *evidence) checkTransfer(t *transfer, say func(string, ...any)) {
	if t.outcome == assent.Undecided {
		say("transaction %s: its client never learnt the outcome: %v", t.id, t.err)
	}
	if logged := e.log[t.id]; logged != t.outcome {
		say("transaction %s: its client was told %v, the log says %v", t.id, t.outcome, logged)
	}
	for i := range e.banks {
		committed, finished := e.banks[i].finished[t.id]
		switch {
		case committed && t.outcome != assent.Committed:
			say("transaction %s: its client was told %v, %s has committed it", t.id, t.outcome, bankNames[i])
		case !committed && t.outcome == assent.Committed && finished:
			say("transaction %s: its client was told committed, %s has rolled it back", t.id, bankNames[i])
		case !committed && t.outcome == assent.Committed:
			say("transaction %s: its client was told committed, %s has not applied it", t.id, bankNames[i])
		}
	}
}

// checkBank looks at what a bank holds, and whether its accounts are what the committed transfers make of them.
func (e *evidence) checkBank(i int, known map[assent.ID]bool, say func(string, ...any)) {
	b, name := &e.banks[i], bankNames[i]
	for _, id := range b.prepared {
		say("transaction %s: %s is in doubt about it", id, name)
	}
	for id := range b.finished {
		if !known[id] {
			say("transaction %s: %s has finished it, and no client submitted it", id, name)
		}
	}
	want := e.balances(i)
	for _, account := range slices.Sorted(maps.Keys(want)) {
		if have := b.accounts[account]; have.Balance != want[account] {
			say("%s of %s has %s; the committed transfers make it %s", account, name, Euros(have.Balance), Euros(want[account]))
		} else if len(b.prepared) == 0 && (have.Outgoing != 0 || have.Incoming != 0) {
			say("%s of %s has holds for no transaction: %+v", account, name, have)
		}
	}
	if len(b.accounts) != len(want) {
		say("%s has %d accounts, and had %d", name, len(b.accounts), len(want))
	}
}

// balances are a bank's accounts as they must be, by what the clients were told.
func (e *evidence) balances(i int) map[string]int64 {
	want := make(map[string]int64)
	for _, name := range accountNames() {
		want[name] = openingBalance
	}
	for _, t := range e.transfers {
		switch {
		case t.outcome != assent.Committed:
		case t.payer == i:
			want[t.from] -= t.cents
		default:
			want[t.to] += t.cents
		}
	}
	return want
}

// totals are the sums over both banks, in cents.
func (e *evidence) totals() (before, after int64) {
	for i := range e.banks {
		before += accountsPerBank * openingBalance
		after += e.banks[i].total()
	}
	return before, after
}

func (t *testimony) total() (sum int64) {
	for _, a := range t.accounts {
		sum += a.Balance
	}
	return sum
}

// held is the number of branches that some bank or the coordinator is in doubt about.
func (e *evidence) held() int {
	return max(e.inDoubt, len(e.banks[0].prepared)+len(e.banks[1].prepared))
}

// Euros writes cents for people.
func Euros(cents int64) string {
	sign := ""
	if cents < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%s%d.%02d", sign, cents/100, cents%100)
}
