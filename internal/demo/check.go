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
		for _, id := range e.chain(&e.transfers[i]) {
			known[id] = true
		}
		e.checkTransfer(&e.transfers[i], say)
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
	want := e.balances()
	for _, p := range slices.SortedFunc(maps.Keys(want), byName) {
		if e.banks[p.bank] == nil {
			say("%s belongs to %q, which is none of the banks", p.account, p.bank)
		}
	}
	for _, name := range e.names() {
		e.checkBank(name, known, say)
		e.checkAccounts(name, want, say)
	}
	if before, after := e.totals(); before != after {
		say("the banks had %s together, and have %s", Euros(before), Euros(after))
	}
	return mismatches
}

// names are the banks', in order.
func (e *evidence) names() []string { return slices.Sorted(maps.Keys(e.banks)) }

// chain is all ids under which a transfer was submitted, by the log: one that met keys which moved was submitted again under
// the next id.
func (e *evidence) chain(t *transfer) []assent.ID {
	ids := []assent.ID{t.id}
	for next := t.id.Next(); e.log[next] != nil; next = next.Next() {
		ids = append(ids, next)
	}
	return ids
}

// retried counts the transfers that were submitted under more than one id, and how many ids more.
func (e *evidence) retried() (transfers, tries int) {
	for i := range e.transfers {
		if more := len(e.chain(&e.transfers[i])) - 1; more > 0 {
			transfers++
			tries += more
		}
	}
	return transfers, tries
}

// checkTransfer compares the client's, the log's and the banks' word on one transfer.
func (e *evidence) checkTransfer(t *transfer, say func(string, ...any)) {
	chain := e.chain(t)
	last := chain[len(chain)-1]
	if t.outcome == assent.Undecided {
		say("transaction %s: its client never learnt the outcome: %v", t.id, t.err)
	}
	if t.last != (assent.ID{}) && t.last != last {
		say("transaction %s: its client was told of %s as the last try, the log has %s", t.id, t.last, last)
	}
	for _, id := range chain[:len(chain)-1] {
		e.checkTry(t.id, id, assent.Aborted, say)
	}
	e.checkTry(t.id, last, t.outcome, say)
	for _, p := range []place{t.from, t.to} {
		if l := e.log[last]; t.outcome == assent.Committed && l != nil && p.bank != "" && !slices.Contains(l.owed, p.bank) {
			say("transaction %s: its client was told committed, the log does not have the yes of %s", t.id, p.bank)
		}
	}
}

// checkTry compares what was told of one try with what the log and the banks say.
func (e *evidence) checkTry(first, id assent.ID, told assent.Outcome, say func(string, ...any)) {
	name := first.String()
	if id != first {
		name += ", tried again as " + id.String()
	}
	entry := e.log[id]
	if entry == nil {
		entry = &logged{}
	}
	if entry.outcome != told {
		say("transaction %s: its client was told %v, the log says %v", name, told, entry.outcome)
	}
	for _, bank := range e.names() {
		committed, finished := e.banks[bank].finished[id]
		owed := told == assent.Committed && slices.Contains(entry.owed, bank)
		switch {
		case committed && told != assent.Committed:
			say("transaction %s: its client was told %v, %s has committed it", name, told, bank)
		case committed && !owed:
			say("transaction %s: %s has committed it, and the log does not have its yes", name, bank)
		case !committed && owed && finished:
			say("transaction %s: its client was told committed, %s has rolled it back", name, bank)
		case !committed && owed:
			say("transaction %s: its client was told committed, %s has not applied it", name, bank)
		}
	}
	for _, bank := range entry.owed {
		if e.banks[bank] == nil {
			say("transaction %s: the log has the yes of %s, which is none of the banks", name, bank)
		}
	}
}

// checkBank looks for what a bank holds or has finished of transactions.
func (e *evidence) checkBank(name string, known map[assent.ID]bool, say func(string, ...any)) {
	for _, id := range e.banks[name].prepared {
		say("transaction %s: %s is in doubt about it", id, name)
	}
	for id := range e.banks[name].finished {
		if !known[id] {
			say("transaction %s: %s has finished it, and no client submitted it", id, name)
		}
	}
}

// checkAccounts looks whether a bank's accounts are those that belong there, and are what the committed transfers make of them.
func (e *evidence) checkAccounts(name string, want map[place]int64, say func(string, ...any)) {
	b := e.banks[name]
	for _, p := range slices.SortedFunc(maps.Keys(want), byName) {
		have, ok := b.accounts[p.account]
		switch {
		case p.bank != name:
		case !ok:
			say("%s is not at %s, where it belongs", p.account, name)
		case have.Balance != want[p]:
			say("%s of %s has %s; the committed transfers make it %s", p.account, name, Euros(have.Balance), Euros(want[p]))
		case len(b.prepared) == 0 && (have.Outgoing != 0 || have.Incoming != 0):
			say("%s of %s has holds for no transaction: %+v", p.account, name, have)
		}
	}
	for _, account := range slices.Sorted(maps.Keys(b.accounts)) {
		if _, ok := want[place{name, account}]; !ok {
			say("%s is at %s, where it does not belong", account, name)
		}
	}
}

func byName(a, b place) int {
	switch {
	case a.account < b.account:
		return -1
	case a.account > b.account:
		return 1
	default:
		return 0
	}
}

// home is where an account belongs in the end.
func (e *evidence) home(p place) place {
	if p.bank == "" {
		p.bank = e.owners[p.account]
	}
	return p
}

// balances are the accounts as they must be, by what the clients were told, each where it belongs.
func (e *evidence) balances() map[place]int64 {
	want := make(map[place]int64)
	for _, p := range e.places {
		want[e.home(p)] = openingBalance
	}
	for _, t := range e.transfers {
		if t.outcome == assent.Committed {
			want[e.home(t.from)] -= t.cents
			want[e.home(t.to)] += t.cents
		}
	}
	return want
}

// opened is what the accounts of a bank were opened with.
func (e *evidence) opened(bank string) (sum int64) {
	for _, p := range e.places {
		if p.bank == bank {
			sum += openingBalance
		}
	}
	return sum
}

// totals are the sums over all banks, in cents.
func (e *evidence) totals() (before, after int64) {
	for _, b := range e.banks {
		after += b.total()
	}
	return int64(len(e.places)) * openingBalance, after
}

func (t *testimony) total() (sum int64) {
	for _, a := range t.accounts {
		sum += a.Balance
	}
	return sum
}

// held is the number of branches that some bank or the coordinator is in doubt about.
func (e *evidence) held() int {
	prepared := 0
	for _, b := range e.banks {
		prepared += len(b.prepared)
	}
	return max(e.inDoubt, prepared)
}

// Euros writes cents for people.
func Euros(cents int64) string {
	sign := ""
	if cents < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%s%d.%02d", sign, cents/100, cents%100)
}
