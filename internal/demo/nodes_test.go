// SPDX-License-Identifier: Apache-2.0

//go:build unix

package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/examples/handover"
)

// A node comes and one goes while money moves: each account is where the ring says, and everybody agrees on every transfer.
func TestNodesComeAndGo(t *testing.T) {
	cfg := configure(t)
	cfg.Nodes, cfg.Rebalance = 2, true
	report, err := run(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Submitted < 200 || report.Committed+report.Aborted != report.Submitted || report.Aborted == 0 {
		t.Errorf("of %d transfers %d were committed, %d aborted", report.Submitted, report.Committed, report.Aborted)
	}
	if report.TotalBefore != report.TotalAfter || report.TotalBefore != 2*accountsPerNode*openingBalance {
		t.Errorf("the total was %d and is %d", report.TotalBefore, report.TotalAfter)
	}
	if report.Kills != 0 || report.Nodes != 2 || len(report.Changes) != 2 {
		t.Fatalf("%+v, %+v", report, report.GroupReport)
	}
	for i, what := range []string{"accounts-3 added", "accounts-1 removed"} {
		c := report.Changes[i]
		if c.What != what || c.Partitions != 4096 || c.Moved < 1300 || c.Moved > 1400 || c.Epochs == 0 || c.Seconds <= 0 {
			t.Errorf("change %d is %+v, want %s, and a third of 4096 partitions moved", i, c, what)
		}
		if c.During <= 0 || c.After <= 0 || c.LongestMS <= 0 {
			t.Errorf("nothing ended during or after the change: %+v", c)
		}
	}
	if report.Moved != report.Changes[0].Moved+report.Changes[1].Moved || report.DuringRatio <= 0 {
		t.Errorf("in all: %+v", report.GroupReport)
	}
	for _, b := range report.Banks {
		if empty := b.Name == "accounts-1"; empty != (b.Accounts == 0) {
			t.Errorf("%s has %d accounts", b.Name, b.Accounts)
		}
	}
}

// Nodes are killed as banks are: what they hold stays theirs, and they come back to it.
func TestNodesAreKilled(t *testing.T) {
	cfg := configure(t)
	cfg.Nodes = 2
	report, err := run(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if report.Committed+report.Aborted != 200 || report.Kills != 3 || len(report.Changes) != 0 {
		t.Fatalf("%+v", report)
	}
	for _, f := range report.Faults {
		if f.Again <= 0 {
			t.Errorf("nothing was committed after the kill of %s: the load had ended", f.Victim)
		}
	}
	if first, last := report.Faults[0].Victim, report.Faults[2].Victim; first != "accounts-1" || last != "accounts-2" {
		t.Errorf("%s and %s were killed", first, last)
	}
}

// An account that is copied to another node's file is found out there.
func TestAccountInTwoPlacesIsFoundOut(t *testing.T) {
	cfg := configure(t)
	cfg.Nodes, cfg.NoFaults, cfg.Transfers = 2, true, 20
	copied := handover.Key(accountName(7))
	var at string
	cfg.tamper = func(dir string) error {
		for _, name := range []string{"accounts-1", "accounts-2"} {
			put, err := putAccount(filepath.Join(dir, name+".db"), copied)
			if err != nil {
				return err
			}
			if put {
				at = name
			}
		}
		return nil
	}
	_, err := run(t, cfg)
	var mismatch *MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("got %v, want a mismatch", err)
	}
	want := fmt.Sprintf("%s is at %s, where it does not belong", accountName(7), at)
	if !slices.Contains(mismatch.Mismatches, want) {
		t.Errorf("found %q, want %q", mismatch.Mismatches, want)
	}
	if !slices.ContainsFunc(mismatch.Mismatches, func(m string) bool {
		return strings.HasPrefix(m, "the banks had 200000.00 together, and have 200000.01")
	}) {
		t.Errorf("the total is not found out: %q", mismatch.Mismatches)
	}
}

// putAccount puts an account of a cent into a file that does not have it.
func putAccount(file string, key []byte) (put bool, err error) {
	db, err := bbolt.Open(file, 0o600, nil)
	if err != nil {
		return false, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		accounts := tx.Bucket([]byte("accounts"))
		if put = accounts.Get(key) == nil; !put {
			return nil
		}
		cent, err := binary.Append(nil, binary.BigEndian, bank.Account{Balance: 1})
		return errors.Join(err, accounts.Put(key, cent))
	})
	return put, errors.Join(err, db.Close())
}
