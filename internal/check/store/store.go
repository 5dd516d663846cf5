// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/participant"
)

// Operation is one operation's payload.
type Operation struct {
	// Op is "append", "read", "add" or "balance", as in package elle.
	Op  string `json:"op"`
	Key string `json:"key"`
	// Value is what is appended to the list, or added to the account.
	Value int64 `json:"value,omitempty"`
	// Report is the subject to which what was read is told, and Number what the asker calls the operation.
	Report string `json:"report,omitempty"`
	Number int    `json:"n,omitempty"`
}

// Report is what a branch read, as it is told.
type Report struct {
	Tx    string `json:"tx"`
	Reads []Read `json:"reads"`
}

// Read is what one operation read.
type Read struct {
	Number int `json:"n"`
	// Values are a list.
	Values []int64 `json:"values,omitempty"`
	// Balance is an account's.
	Balance int64 `json:"balance,omitempty"`
}

// account is one account. Its bytes are the file's format.
type account struct {
	Balance int64 `json:"balance"`
	// Outgoing is held for prepared debits. Invariant: 0 <= Outgoing <= Balance.
	Outgoing int64 `json:"outgoing,omitempty"`
}

// prepared is what a branch changes when it commits.
type prepared struct {
	Changes []Operation `json:"changes,omitempty"`
}

// told is what a prepared branch read.
type told struct {
	Subject string `json:"subject"`
	Reads   []Read `json:"reads"`
}

var (
	lists    = tables.Table[[]int64]{Name: "lists"}
	accounts = tables.Table[account]{Name: "accounts"}
	reads    = tables.Table[told]{Name: "reads"}
)

// Store is the lists and accounts of one participant. Its methods may be called by many goroutines at once.
type Store struct {
	*tables.Journal[prepared]
	file    *tables.File
	opening int64
	// tell publishes; an error is nobody's concern.
	tell func(subject string, data []byte) error
}

var (
	_ participant.BatchHandler = (*Store)(nil)
	_ participant.InDoubt      = (*Store)(nil)
	_ participant.Watermark    = (*Store)(nil)
)

// Open opens a store's file, or makes an empty one. An account that nobody has used yet has the opening balance. What is read
// is told by tell.
func Open(file string, opening int64, tell func(subject string, data []byte) error) (*Store, error) {
	opened, err := tables.Open(file, tables.Durable(), append(tables.JournalBuckets(), lists.Name, accounts.Name, reads.Name)...)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	journal, err := tables.NewJournal[prepared](opened)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: %s: %w", file, err), opened.Close())
	}
	return &Store{Journal: journal, file: opened, opening: opening, tell: tell}, nil
}

// Close closes the file. Everything that was answered is in it already.
func (s *Store) Close() error { return s.file.Close() }
