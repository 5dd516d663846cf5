// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
)

// agreeing is evidence of two transfers: one committed, one aborted. Both go from bank-a's account 0 to bank-b's account 1.
func agreeing() *evidence {
	e := evidenceOf((&twoBanks{}).places())
	for _, outcome := range []assent.Outcome{assent.Committed, assent.Aborted} {
		t := transfer{from: place{"bank-a", accountName(0)}, to: place{"bank-b", accountName(1)}, cents: 250, id: assent.NewID(), outcome: outcome}
		t.last = t.id
		e.transfers = append(e.transfers, t)
		e.log[t.id] = &logged{outcome: outcome}
		e.banks["bank-b"].finished[t.id] = outcome == assent.Committed
	}
	committed := e.transfers[0].id
	e.log[committed].owed = []string{"bank-a", "bank-b"}
	e.banks["bank-a"].finished[committed] = true // the aborted one was refused there, and left nothing
	e.banks["bank-a"].accounts[accountName(0)] = bank.Account{Balance: openingBalance - 250}
	e.banks["bank-b"].accounts[accountName(1)] = bank.Account{Balance: openingBalance + 250}
	return e
}

// evidenceOf is that of no transfers.
func evidenceOf(places []place) *evidence {
	e := &evidence{places: places, log: make(map[assent.ID]*logged), banks: make(map[string]*testimony)}
	for _, p := range places {
		if e.banks[p.bank] == nil {
			e.banks[p.bank] = &testimony{accounts: make(map[string]bank.Account), finished: make(map[assent.ID]bool)}
		}
		e.banks[p.bank].accounts[p.account] = bank.Account{Balance: openingBalance}
	}
	return e
}

func TestCheckAgrees(t *testing.T) {
	if got := agreeing().check(); len(got) > 0 {
		t.Errorf("mismatches in what agrees: %q", got)
	}
}

func TestCheckFinds(t *testing.T) {
	stranger := assent.NewID()
	for name, c := range map[string]struct {
		spoil func(e *evidence)
		want  string // %c is the committed transaction, %a the aborted one
	}{
		"a client that never learnt": {
			func(e *evidence) {
				e.transfers[1].outcome, e.transfers[1].err = assent.Undecided, errors.New("no answer")
			},
			"transaction %a: its client never learnt the outcome: no answer",
		},
		"a client that was told wrong": {
			func(e *evidence) { e.transfers[1].outcome = assent.Committed },
			"transaction %a: its client was told committed, the log says aborted",
		},
		"a transaction that is not in the log": {
			func(e *evidence) { delete(e.log, e.transfers[0].id) },
			"transaction %c: its client was told committed, the log says undecided",
		},
		"a log that decided otherwise": {
			func(e *evidence) { e.log[e.transfers[0].id].outcome = assent.Aborted },
			"transaction %c: its client was told committed, the log says aborted",
		},
		"a transaction that nobody submitted": {
			func(e *evidence) { e.log[stranger] = &logged{outcome: assent.Aborted} },
			"transaction " + stranger.String() + ": the log has it, and no client submitted it",
		},
		"a commit that a bank lost": {
			func(e *evidence) { delete(e.banks["bank-a"].finished, e.transfers[0].id) },
			"transaction %c: its client was told committed, bank-a has not applied it",
		},
		"a commit that a bank rolled back": {
			func(e *evidence) { e.banks["bank-b"].finished[e.transfers[0].id] = false },
			"transaction %c: its client was told committed, bank-b has rolled it back",
		},
		"an abort that a bank committed": {
			func(e *evidence) { e.banks["bank-b"].finished[e.transfers[1].id] = true },
			"transaction %a: its client was told aborted, bank-b has committed it",
		},
		"a bank that finished a stranger": {
			func(e *evidence) { e.banks["bank-a"].finished[stranger] = false },
			"transaction " + stranger.String() + ": bank-a has finished it, and no client submitted it",
		},
		"a bank in doubt": {
			func(e *evidence) { e.banks["bank-a"].prepared = []assent.ID{e.transfers[0].id} },
			"transaction %c: bank-a is in doubt about it",
		},
		"holds that were left": {
			func(e *evidence) {
				e.banks["bank-b"].accounts[accountName(5)] = bank.Account{Balance: openingBalance, Outgoing: 1}
			},
			"account-005 of bank-b has holds for no transaction",
		},
		"money that is gone": {
			func(e *evidence) { e.banks["bank-b"].accounts[accountName(1)] = bank.Account{Balance: openingBalance} },
			"the banks had 200000.00 together, and have 199997.50",
		},
		"money on the wrong account": {
			func(e *evidence) {
				e.banks["bank-b"].accounts[accountName(1)] = bank.Account{Balance: openingBalance}
				e.banks["bank-b"].accounts[accountName(2)] = bank.Account{Balance: openingBalance + 250}
			},
			"account-001 of bank-b has 1000.00; the committed transfers make it 1002.50",
		},
		"an account too many": {
			func(e *evidence) { e.banks["bank-a"].accounts["mallory"] = bank.Account{} },
			"mallory is at bank-a, where it does not belong",
		},
		"an account that is gone": {
			func(e *evidence) { delete(e.banks["bank-a"].accounts, accountName(7)) },
			"account-007 is not at bank-a, where it belongs",
		},
		"a log without a bank's yes": {
			func(e *evidence) { e.log[e.transfers[0].id].owed = []string{"bank-a"} },
			"transaction %c: bank-b has committed it, and the log does not have its yes",
		},
		"a log in which a bank was never asked": {
			func(e *evidence) {
				e.log[e.transfers[0].id].owed = []string{"bank-a"}
				delete(e.banks["bank-b"].finished, e.transfers[0].id)
			},
			"transaction %c: its client was told committed, the log does not have the yes of bank-b",
		},
		"an open transaction":    {func(e *evidence) { e.open = 1 }, "1 transactions are open in the log"},
		"a coordinator in doubt": {func(e *evidence) { e.inDoubt = 2 }, "2 branches are in doubt, says the coordinator"},
	} {
		t.Run(name, func(t *testing.T) {
			e := agreeing()
			want := strings.NewReplacer("%c", e.transfers[0].id.String(), "%a", e.transfers[1].id.String()).Replace(c.want)
			c.spoil(e)
			got := e.check()
			if !slices.ContainsFunc(got, func(m string) bool { return strings.HasPrefix(m, want) }) {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

func TestEuros(t *testing.T) {
	for cents, want := range map[int64]string{0: "0.00", 7: "0.07", 123456: "1234.56", -5: "-0.05"} {
		if got := Euros(cents); got != want {
			t.Errorf("%d cents are %s, want %s", cents, got, want)
		}
	}
}

func TestTransfersFollowTheSeed(t *testing.T) {
	overdrawn := 0
	const total = 1_000_000_00
	newTransfer := func(seed uint64, i int) transfer { return newTransfer(seed, i, total, (&twoBanks{}).pair) }
	for i := range 1000 {
		a, b := newTransfer(7, i), newTransfer(7, i)
		if a != b {
			t.Fatalf("transfer %d is %+v and %+v", i, a, b)
		}
		if a.cents > total {
			overdrawn++
		}
		if a.cents < 1 {
			t.Errorf("transfer %d is of %d cents", i, a.cents)
		}
	}
	if overdrawn < 20 || overdrawn > 100 { // the seed is fixed
		t.Errorf("%d of 1000 transfers are sure to be refused, want about 50", overdrawn)
	}
	if newTransfer(7, 0) == newTransfer(8, 0) {
		t.Error("another seed makes the same transfer")
	}
}
