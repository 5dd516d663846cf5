// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
)

// agreeingGroup is evidence of three nodes, of which the third was removed and has nothing any more, and of four accounts: 0 and 1
// are at the first node, 2 and 3 at the second. There were three transfers: from 0 to 2; from 0 to 1, which met a move
// and was tried twice more; and from 0 to 3, which was refused.
func agreeingGroup() *evidence {
	e := evidenceOf([]place{{"accounts-1", accountName(0)}, {"accounts-1", accountName(1)}, {"accounts-2", accountName(2)}, {"accounts-2", accountName(3)}})
	e.banks["accounts-3"] = &testimony{accounts: make(map[string]bank.Account), finished: make(map[assent.ID]bool)}
	e.owners = make(map[string]string)
	for i, p := range e.places {
		e.owners[p.account] = p.bank
		e.places[i].bank = ""
	}
	across := e.transfer(accountName(0), accountName(2), assent.Committed, "accounts-1", "accounts-2")
	moved := e.transfer(accountName(0), accountName(1), assent.Aborted)
	moved.last = moved.id.Next().Next()
	moved.outcome = assent.Committed
	e.log[moved.id.Next()] = &logged{outcome: assent.Aborted}
	e.banks["accounts-2"].finished[moved.id.Next()] = false // it had said yes, and the other one no
	e.log[moved.last] = &logged{outcome: assent.Committed, owed: []string{"accounts-1"}}
	e.banks["accounts-1"].finished[moved.last] = true
	refused := e.transfer(accountName(0), accountName(3), assent.Aborted)
	e.transfers = []transfer{across, moved, refused}
	for account, balance := range map[string]int64{accountName(0): -500, accountName(1): 250, accountName(2): 250} {
		e.banks[e.owners[account]].accounts[account] = bank.Account{Balance: openingBalance + balance}
	}
	return e
}

// transfer is one of 250 cents that everybody agrees about.
func (e *evidence) transfer(from, to string, outcome assent.Outcome, owed ...string) transfer {
	t := transfer{from: place{account: from}, to: place{account: to}, cents: 250, id: assent.NewID(), outcome: outcome}
	t.last = t.id
	e.log[t.id] = &logged{outcome: outcome, owed: owed}
	for _, name := range owed {
		e.banks[name].finished[t.id] = true
	}
	return t
}

func TestCheckOfAGroupAgrees(t *testing.T) {
	e := agreeingGroup()
	if got := e.check(); len(got) > 0 {
		t.Errorf("mismatches in what agrees: %q", got)
	}
	if retried, tries := e.retried(); retried != 1 || tries != 2 {
		t.Errorf("%d were tried again, %d times; want 1, 2 times", retried, tries)
	}
}

func TestCheckOfAGroupFinds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(e *evidence)
		want  string // %a, %m and %r are the transfers; %2 and %3 the second and third try of %m
	}{
		"an account that did not move": {
			func(e *evidence) {
				e.banks["accounts-3"].accounts[accountName(3)] = e.banks["accounts-2"].accounts[accountName(3)]
				delete(e.banks["accounts-2"].accounts, accountName(3))
			},
			"account-003 is not at accounts-2, where it belongs",
		},
		"a copy that was left": {
			func(e *evidence) {
				e.banks["accounts-3"].accounts[accountName(3)] = e.banks["accounts-2"].accounts[accountName(3)]
			},
			"account-003 is at accounts-3, where it does not belong",
		},
		"a copy that was left counts twice": {
			func(e *evidence) {
				e.banks["accounts-3"].accounts[accountName(3)] = e.banks["accounts-2"].accounts[accountName(3)]
			},
			"the banks had 4000.00 together, and have 5000.00",
		},
		"an account that was lost": {
			func(e *evidence) { delete(e.banks["accounts-2"].accounts, accountName(3)) },
			"account-003 is not at accounts-2, where it belongs",
		},
		"an account that moved before its transaction was applied": {
			func(e *evidence) {
				e.banks["accounts-2"].accounts[accountName(2)] = bank.Account{Balance: openingBalance}
			},
			"account-002 of accounts-2 has 1000.00; the committed transfers make it 1002.50",
		},
		"an account that moved with a hold": {
			func(e *evidence) {
				e.banks["accounts-2"].accounts[accountName(3)] = bank.Account{Balance: openingBalance, Incoming: 250}
			},
			"account-003 of accounts-2 has holds for no transaction",
		},
		"a key of nobody": {
			func(e *evidence) { e.owners[accountName(3)] = "" },
			`account-003 belongs to "", which is none of the banks`,
		},
		"a try that met a move, and committed": {
			func(e *evidence) { e.log[e.transfers[1].id].outcome = assent.Committed },
			"transaction %m: its client was told aborted, the log says committed",
		},
		"a second try that committed beside the third": {
			func(e *evidence) { e.log[e.transfers[1].id.Next()].outcome = assent.Committed },
			"transaction %m, tried again as %2: its client was told aborted, the log says committed",
		},
		"a second try that a node has committed": {
			func(e *evidence) { e.banks["accounts-2"].finished[e.transfers[1].id.Next()] = true },
			"transaction %m, tried again as %2: its client was told aborted, accounts-2 has committed it",
		},
		"a last try that a node has not applied": {
			func(e *evidence) { delete(e.banks["accounts-1"].finished, e.transfers[1].last) },
			"transaction %m, tried again as %3: its client was told committed, accounts-1 has not applied it",
		},
		"a last try that a node rolled back": {
			func(e *evidence) { e.banks["accounts-1"].finished[e.transfers[1].last] = false },
			"transaction %m, tried again as %3: its client was told committed, accounts-1 has rolled it back",
		},
		"a try more than the client knows": {
			func(e *evidence) { e.transfers[1].last = e.transfers[1].id.Next() },
			"transaction %m: its client was told of %2 as the last try, the log has %3",
		},
		"a try after a refusal": {
			func(e *evidence) { e.log[e.transfers[2].id.Next()] = &logged{outcome: assent.Aborted} },
			"transaction %r: its client was told of %r as the last try, the log has",
		},
		"a try that is missing in the log": {
			func(e *evidence) { delete(e.log, e.transfers[1].id.Next()) },
			"transaction %3: the log has it, and no client submitted it",
		},
		"a commit by the node that gave the account away": {
			func(e *evidence) { e.banks["accounts-3"].finished[e.transfers[0].id] = true },
			"transaction %a: accounts-3 has committed it, and the log does not have its yes",
		},
		"a node that nobody knows": {
			func(e *evidence) { e.log[e.transfers[0].id].owed = []string{"accounts-1", "accounts-2", "accounts-9"} },
			"transaction %a: the log has the yes of accounts-9, which is none of the banks",
		},
		"a removed node in doubt": {
			func(e *evidence) { e.banks["accounts-3"].prepared = []assent.ID{e.transfers[0].id} },
			"transaction %a: accounts-3 is in doubt about it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := agreeingGroup()
			moved := e.transfers[1].id
			want := strings.NewReplacer("%a", e.transfers[0].id.String(), "%m", moved.String(), "%r", e.transfers[2].id.String(),
				"%2", moved.Next().String(), "%3", moved.Next().Next().String()).Replace(c.want)
			c.spoil(e)
			got := e.check()
			if !slices.ContainsFunc(got, func(m string) bool { return strings.HasPrefix(m, want) }) {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}
