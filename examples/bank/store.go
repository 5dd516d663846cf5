// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
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

var accounts = tables.Table[Account]{Name: "accounts"} // in the order of the hash circle

// Store is a bank's accounts and what transactions have prepared on them, in a file. Its methods may be called by many
// goroutines at once.
type Store struct {
	*tables.Journal[[]Entry]
	file *tables.File
	// holdings are the partitions of a bank that shares a group's accounts with others; nil for a bank of its own.
	holdings *handover.Holdings
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
	return open(file, remember, tables.Durable())
}

func open(file string, remember time.Duration, options *bbolt.Options) (*Store, error) {
	opened, err := tables.Open(file, options, append(tables.JournalBuckets(), accounts.Name, handover.Bucket)...)
	if err != nil {
		return nil, fmt.Errorf("bank: %w", err)
	}
	journal, err := tables.NewJournal[[]Entry](opened)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bank: %s: %w", file, err), opened.Close())
	}
	journal.Remember = remember
	return &Store{Journal: journal, file: opened}, nil
}

// Close closes the file. Everything that was answered is in it already.
func (s *Store) Close() error { return s.file.Close() }

// OpenAccounts opens accounts with a balance each, in cents. Accounts that exist stay as they are.
func (s *Store) OpenAccounts(balance int64, names ...string) error {
	if balance < 0 || balance > MaxCents {
		return fmt.Errorf("bank: a balance of %d cents: want 0 to %d", balance, int64(MaxCents))
	}
	return s.file.Join(func(w *tables.Writer) error {
		for _, name := range names {
			if err := s.open(w, balance, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) open(w *tables.Writer, balance int64, name string) error {
	if name == "" {
		return errors.New("bank: an account needs a name")
	}
	if s.holdings != nil {
		if err := s.holdings.Holds(w.Tx, name); err != nil {
			return err
		}
	}
	_, exists, err := accounts.Get(w.Tx, handover.Key(name))
	if err == nil && !exists {
		err = accounts.Put(w, handover.Key(name), Account{Balance: balance})
	}
	return err
}

// Accounts gives every account's state, by name, as of one moment.
func (s *Store) Accounts() (map[string]Account, error) {
	all := make(map[string]Account)
	err := s.file.View(func(tx *bbolt.Tx) error {
		return accounts.Each(tx, func(key []byte, a Account) error {
			all[handover.Name(key)] = a
			return nil
		})
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
	err := s.file.View(func(tx *bbolt.Tx) error {
		t.Prepared = s.Prepared(tx)
		return accounts.Each(tx, func(_ []byte, a Account) error {
			t.Accounts++
			t.Balance += a.Balance
			t.Outgoing += a.Outgoing
			t.Incoming += a.Incoming
			return nil
		})
	})
	return t, err
}
