// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"

	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/participant"
)

// What each store is asked to do.
const (
	bankAccounts = 1000
	bankBalance  = 1 << 40
	bankClients  = 256
	bankAtLeast  = 0.6
)

// bank gives transfers between two banks, each an account store on bbolt in a file of its own, and beside them the same transactions of
// two participants that do nothing.
func (b *storesBench) bank(ctx context.Context, c *cluster) (*stored, error) {
	var banks []*bank.Store
	var idle, names []string
	for i := range 2 {
		none := "none-" + strconv.Itoa(i+1)
		if err := c.startParticipant(ctx, &Config{Handler: Batch, Log: b.cfg.Log}, none, b.fail); err != nil {
			return nil, err
		}
		name := "bank-" + strconv.Itoa(i+1)
		store, err := b.openBank(ctx, c, name)
		if err != nil {
			return nil, err
		}
		idle, names, banks = append(idle, none), append(names, name), append(banks, store)
	}
	s := &stored{audit: func(context.Context) error { return auditBanks(banks) }}
	transfer := func(participants []string) func(context.Context, int) error {
		return func(ctx context.Context, _ int) error {
			tx := c.client.Begin()
			for i, name := range participants {
				tx.Enlist(name, bank.Entry{Account: accountName(rand.IntN(bankAccounts)), Cents: int64(2*i - 1)})
			}
			return tx.Commit(ctx)
		}
	}
	for _, clients := range b.clients(bankClients) {
		r := newStoreRow("transfers", "participants that do nothing", clients, bankAtLeast)
		r.ours.do, r.theirs.do = transfer(names), transfer(idle)
		s.rows = append(s.rows, r)
	}
	return s, nil
}

func accountName(n int) string { return "account-" + strconv.Itoa(n) }

// openBank opens a bank with its accounts, and has it take part.
func (b *storesBench) openBank(ctx context.Context, c *cluster, name string) (store *bank.Store, err error) {
	store, err = bank.Open(filepath.Join(b.cfg.Dir, name), 0)
	if err != nil {
		return nil, err
	}
	c.closers = append(c.closers, store.Close)
	accounts := make([]string, bankAccounts)
	for i := range accounts {
		accounts[i] = accountName(i)
	}
	if err := store.OpenAccounts(bankBalance, accounts...); err != nil {
		return nil, err
	}
	return store, b.participate(ctx, c, participant.Config{Name: name, Batch: store, Log: b.cfg.Log})
}

// participate starts a participant on a connection of its own.
func (b *storesBench) participate(ctx context.Context, c *cluster, cfg participant.Config) (err error) {
	label(ctx, "participant", func(ctx context.Context) {
		nc, dialled := c.dial(cfg.Name)
		if err = dialled; err != nil {
			return
		}
		var p *participant.Participant
		if p, err = participant.New(nc, cfg); err == nil {
			err = c.background(ctx, cfg.Name, p.Run, p.Ready(), b.fail)
		}
	})
	return err
}

// auditBanks counts the money.
func auditBanks(banks []*bank.Store) error {
	var sum int64
	for _, store := range banks {
		accounts, err := store.Accounts()
		if err != nil {
			return err
		}
		for _, a := range accounts {
			sum += a.Balance
		}
	}
	return sameSum(sum, int64(len(banks))*bankAccounts*bankBalance)
}

// sameSum says that money came or went.
func sameSum(got, want int64) error {
	if got != want {
		return fmt.Errorf("the accounts have %d in all, and had %d", got, want)
	}
	return nil
}
