// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/assent-tx/assent/examples/bank"
)

// twoBanks is a scene: each bank has accounts of its own, and each transfer is between both. One is killed after the other,
// and the coordinator between them.
type twoBanks struct{ faults bool }

var bankNames = [2]string{"bank-a", "bank-b"}

const accountsPerBank = 100

func (s *twoBanks) cast(c *cluster) error {
	for i, name := range bankNames {
		store, err := bank.Open(c.bankFile(name), 0)
		if err != nil {
			return err
		}
		var names []string
		for _, p := range s.places()[i*accountsPerBank:][:accountsPerBank] {
			names = append(names, p.account)
		}
		if err := errors.Join(store.OpenAccounts(openingBalance, names...), store.Close()); err != nil {
			return err
		}
		c.bank(name)
	}
	return nil
}

func (s *twoBanks) set(context.Context, *cluster) error { return nil }

func (s *twoBanks) places() (all []place) {
	for _, name := range bankNames {
		for i := range accountsPerBank {
			all = append(all, place{name, accountName(i)})
		}
	}
	return all
}

func (s *twoBanks) pair(random *rand.Rand) (from, to place) {
	payer := random.IntN(2)
	return place{bankNames[payer], accountName(random.IntN(accountsPerBank))},
		place{bankNames[1-payer], accountName(random.IntN(accountsPerBank))}
}

func (s *twoBanks) script(c *cluster) *script {
	if !s.faults {
		return newScript(false)
	}
	return c.kills(c.banks[0], c.banks[1])
}

func (s *twoBanks) witness(context.Context, *cluster, *evidence) error { return nil }

func (s *twoBanks) close() {}
