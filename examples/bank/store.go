// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Account is one account's state, in cents.
type Account struct {
	Balance int64 `json:"balance"`
	// Outgoing is held for prepared debits: it is part of Balance, but not free any more.
	// Invariant: 0 <= Outgoing <= Balance.
	Outgoing int64 `json:"outgoing,omitempty"`
	// Incoming is promised by prepared credits: it is not part of Balance yet.
	// Invariant: 0 <= Incoming <= MaxCents - Balance.
	Incoming int64 `json:"incoming,omitempty"`
}

// Entry is one operation's payload: a debit when Cents is negative, a credit when it is positive. Zero asks only whether
// the account exists, and changes nothing.
type Entry struct {
	Account string `json:"account"`
	Cents   int64  `json:"cents"`
}

// MaxCents is the most that an account may hold and an entry may move: JSON in every language has it exactly.
const MaxCents = 1 << 53

// preparedBranch is what makes it possible to go either way.
type preparedBranch struct {
	Entries []Entry   `json:"entries"`
	Expires time.Time `json:"expires"`
}

// finishedBranch remembers how a transaction ended.
type finishedBranch struct {
	Committed bool `json:"committed"`
}

// The tables of the file.
var (
	accounts   = table[Account]{"accounts"}
	prepared   = table[preparedBranch]{"prepared"}
	finished   = table[finishedBranch]{"finished"}
	sweeping   = table[struct{}]{"sweeping"} // when each finished transaction may be forgotten, earliest first
	watermarks = table[watermark]{"watermarks"}
)

// Store is a bank's accounts and what transactions have prepared on them, in a file. Its methods may be called by many
// goroutines at once.
type Store struct {
	db       *bbolt.DB
	remember time.Duration
}

var (
	_ participant.BatchHandler = (*Store)(nil)
	_ participant.InDoubt      = (*Store)(nil)
	_ participant.Watermark    = (*Store)(nil)
)

// Open opens a bank's file, or makes an empty one. Only one process can have it open: another one fails after a second.
// Finished transactions are remembered for the time remember after their expiry, for who wants to audit them; zero is
// enough for the protocol.
func Open(file string, remember time.Duration) (*Store, error) {
	return open(file, remember, &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
}

func open(file string, remember time.Duration, options *bbolt.Options) (*Store, error) {
	db, err := bbolt.Open(file, 0o600, options)
	if err != nil {
		return nil, fmt.Errorf("bank: open %s: %w", file, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{accounts.name, prepared.name, finished.name, sweeping.name, watermarks.name} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bank: %s: %w", file, err), db.Close())
	}
	return &Store{db: db, remember: remember}, nil
}

// Close closes the file. Everything that was answered is in it already.
func (s *Store) Close() error { return s.db.Close() }

// OpenAccounts opens accounts with a balance each, in cents. Accounts that exist stay as they are.
func (s *Store) OpenAccounts(balance int64, names ...string) error {
	if balance < 0 || balance > MaxCents {
		return fmt.Errorf("bank: a balance of %d cents: want 0 to %d", balance, int64(MaxCents))
	}
	return s.update(func(w *writer) error {
		for _, name := range names {
			if name == "" {
				return errors.New("bank: an account needs a name")
			}
			_, exists, err := accounts.get(w.tx, []byte(name))
			if err == nil && !exists {
				err = accounts.put(w, []byte(name), Account{Balance: balance})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Accounts gives every account's state, by name, as of one moment.
func (s *Store) Accounts() (map[string]Account, error) {
	all := make(map[string]Account)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return accounts.each(tx, func(name []byte, a Account) { all[string(name)] = a })
	})
	return all, err
}

// Totals is a bank's sum.
type Totals struct {
	// Balance, Outgoing and Incoming are the sums over all accounts, in cents.
	Account
	// Accounts is their number, Prepared that of the transactions that hold something.
	Accounts, Prepared int
}

// Totals sums up the bank, as of one moment.
func (s *Store) Totals() (Totals, error) {
	var t Totals
	err := s.db.View(func(tx *bbolt.Tx) error {
		t.Prepared = prepared.len(tx)
		return accounts.each(tx, func(_ []byte, a Account) {
			t.Accounts++
			t.Balance += a.Balance
			t.Outgoing += a.Outgoing
			t.Incoming += a.Incoming
		})
	})
	return t, err
}

// Finished gives the transactions that ended and are still remembered, and whether each was committed.
func (s *Store) Finished() (map[messages.ID]bool, error) {
	all := make(map[messages.ID]bool)
	err := s.db.View(func(tx *bbolt.Tx) error {
		return finished.each(tx, func(id []byte, f finishedBranch) { all[messages.ID(id)] = f.Committed })
	})
	return all, err
}
