// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// model is the bank as a child would keep it: plain maps, no holds; what is free is worked out anew each time.
type model struct {
	balance  map[string]int64
	prepared map[messages.ID][]Entry
	finished map[messages.ID]bool
}

func (m *model) prepare(tx messages.ID, entries []Entry) (yes bool) {
	if _, ok := m.prepared[tx]; ok {
		return true
	}
	if _, ok := m.finished[tx]; ok {
		return true
	}
	free := maps.Clone(m.balance)
	for _, other := range m.prepared {
		debit(free, other)
	}
	if !debit(free, entries) {
		return false
	}
	m.prepared[tx] = entries
	return true
}

// debit takes the debits alone; false when an account has too little.
func debit(free map[string]int64, entries []Entry) bool {
	for _, e := range entries {
		free[e.Account] += min(e.Cents, 0)
		if free[e.Account] < 0 {
			return false
		}
	}
	return true
}

func (m *model) finish(tx messages.ID, commit bool) {
	entries, ok := m.prepared[tx]
	if !ok {
		return
	}
	delete(m.prepared, tx)
	m.finished[tx] = commit
	for _, e := range entries {
		if commit {
			m.balance[e.Account] += e.Cents
		}
	}
}

// machine drives the store and the model with the same branches and outcomes, in batches of random shape.
type machine struct {
	model
	store    *Store
	file     string
	branches []*participant.Branch
	entries  map[messages.ID][]Entry
}

var names = []string{"a", "b", "c"}

func TestModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		m := &machine{
			model: model{make(map[string]int64), make(map[messages.ID][]Entry), make(map[messages.ID]bool)},
			file:  filepath.Join(dir, fmt.Sprint(run)), entries: make(map[messages.ID][]Entry),
		}
		m.open(t)
		defer func() { m.store.Close() }()
		for _, name := range names {
			m.balance[name] = 100
		}
		if err := m.store.OpenAccounts(100, names...); err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"prepare": m.prepareBatch, "finish": m.finishBatch, "crash": m.crash, "": m.compare,
		})
	})
}

// open opens without syncs: a crash of the process alone loses nothing that was written.
func (m *machine) open(t *rapid.T) {
	var err error
	if m.store, err = open(m.file, 0, &bbolt.Options{NoSync: true}); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) crash(t *rapid.T) {
	if err := m.store.Close(); err != nil {
		t.Fatal(err)
	}
	m.open(t)
}

func (m *machine) prepareBatch(t *rapid.T) {
	var batch []*participant.Branch
	if len(m.branches) > 0 {
		batch = rapid.SliceOfNDistinct(rapid.SampledFrom(m.branches), 0, 2, rapid.ID[*participant.Branch]).Draw(t, "again")
	}
	for range rapid.IntRange(0, 4).Draw(t, "new") {
		entries := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Entry {
			return Entry{rapid.SampledFrom(names).Draw(t, "account"), rapid.Int64Range(-60, 60).Draw(t, "cents")}
		}), 1, 3).Draw(t, "entries")
		b := branch(entries...)
		m.entries[b.Tx] = entries
		m.branches = append(m.branches, b)
		batch = append(batch, b)
	}
	for i, r := range m.store.PrepareBatch(t.Context(), batch) {
		b := batch[i]
		switch {
		case r.Err == nil && r.Vote == participant.ReadOnly:
			if len(changesOf(append([]Entry(nil), m.entries[b.Tx]...))) != 0 {
				t.Fatalf("%v is not read-only", m.entries[b.Tx])
			}
		case r.Err == nil != m.prepare(b.Tx, m.entries[b.Tx]):
			t.Fatalf("branch %d, %v: the store says %v, %v; the model the opposite", i, m.entries[b.Tx], r.Vote, r.Err)
		case r.Err != nil && !errors.Is(r.Err, participant.ErrRefused):
			t.Fatal(r.Err)
		}
	}
}

func (m *machine) finishBatch(t *rapid.T) {
	txs := []messages.ID{messages.NewID()} // nobody knows it
	for _, b := range m.branches {
		txs = append(txs, b.Tx)
	}
	var outcomes []participant.Outcome
	for _, tx := range rapid.SliceOfNDistinct(rapid.SampledFrom(txs), 1, 4, rapid.ID[messages.ID]).Draw(t, "txs") {
		o := participant.Outcome{Tx: tx, Commit: rapid.Bool().Draw(t, "commit")}
		outcomes = append(outcomes, o)
		m.finish(tx, o.Commit)
	}
	if err := errors.Join(m.store.FinishBatch(t.Context(), outcomes)...); err != nil {
		t.Fatal(err)
	}
}

// compare holds all that can be seen of the store against the model.
func (m *machine) compare(t *rapid.T) {
	accounts, err := m.store.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]Account)
	for name, balance := range m.balance {
		want[name] = Account{Balance: balance}
	}
	for _, entries := range m.prepared {
		for _, e := range entries {
			a := want[e.Account]
			a.Outgoing -= min(e.Cents, 0)
			a.Incoming += max(e.Cents, 0)
			want[e.Account] = a
		}
	}
	if !maps.Equal(accounts, want) {
		t.Fatalf("accounts are %v, want %v", accounts, want)
	}
	finished, err := m.store.Finished()
	if err != nil || !maps.Equal(finished, m.finished) {
		t.Fatalf("finished are %v, %v; want %v", finished, err, m.finished)
	}
	inDoubt, err := m.store.InDoubt(t.Context())
	if err != nil || len(inDoubt) != len(m.prepared) {
		t.Fatalf("in doubt are %v, %v; want %v", inDoubt, err, m.prepared)
	}
	for _, b := range inDoubt {
		if _, ok := m.prepared[b.Tx]; !ok {
			t.Fatalf("%s is in doubt and was not prepared", b.Tx)
		}
	}
}
