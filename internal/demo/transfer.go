// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/examples/bank"
)

// place is where money can be: an account, and the bank that has it; "" when the ring says which one.
type place struct{ bank, account string }

func accountName(i int) string { return fmt.Sprintf("account-%03d", i) }

// openingBalance is what each account begins with, in cents.
const openingBalance = 1000_00

// transfer moves cents from one place to another, and is what its client learnt.
type transfer struct {
	from, to place
	cents    int64

	id assent.ID
	// last is the id under which it was submitted last: another one when it met keys that moved.
	last         assent.ID
	began, ended time.Time
	outcome      assent.Outcome
	err          error // why the outcome is not known
}

// newTransfer makes the i-th transfer of a seed; pair says between which places. One in twenty is for more than there is.
func newTransfer(seed uint64, i int, total int64, pair func(*rand.Rand) (from, to place)) transfer {
	random := rand.New(rand.NewPCG(seed, uint64(i)))
	var t transfer
	t.from, t.to = pair(random)
	t.cents = 1 + random.Int64N(200_00)
	if random.IntN(20) == 0 {
		t.cents += total
	}
	return t
}

// enlist puts both sides of the transfer into a transaction.
func (t *transfer) enlist(tx *assent.Tx) {
	for _, side := range []struct {
		place
		cents int64
	}{{t.from, -t.cents}, {t.to, t.cents}} {
		entry := bank.Entry{Account: side.account, Cents: side.cents}
		if side.bank == "" {
			tx.EnlistKey(accountsGroup, side.account, entry)
		} else {
			tx.Enlist(side.bank, entry)
		}
	}
}

// learn takes Commit's answer.
func (t *transfer) learn(err error) {
	switch {
	case err == nil:
		t.outcome, t.err = assent.Committed, nil
	case errors.Is(err, assent.ErrAborted):
		t.outcome, t.err = assent.Aborted, nil
	default:
		t.outcome, t.err = assent.Undecided, err
	}
}
