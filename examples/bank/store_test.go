// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// fixture is a store with some accounts of 1000 cents.
type fixture struct {
	*Store
	t    *testing.T
	path string
}

func newFixture(t *testing.T, names ...string) *fixture {
	t.Helper()
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "bank.db")}
	f.reopen()
	t.Cleanup(func() { f.Close() })
	if err := f.OpenAccounts(1000, names...); err != nil {
		t.Fatal(err)
	}
	return f
}

// reopen is a crash: what was answered is in the file, and nothing else is anywhere.
func (f *fixture) reopen() {
	f.t.Helper()
	if f.Store != nil {
		f.Close()
	}
	var err error
	if f.Store, err = Open(f.path, 0); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) prepare(branches ...*participant.Branch) []participant.Result {
	f.t.Helper()
	return f.PrepareBatch(f.t.Context(), branches)
}

// wantVote prepares one branch.
func (f *fixture) wantVote(b *participant.Branch, vote participant.Vote) {
	f.t.Helper()
	if r := f.prepare(b)[0]; r.Vote != vote || r.Err != nil {
		f.t.Fatalf("prepare gave %v, %v; want %v", r.Vote, r.Err, vote)
	}
}

// wantRefusal prepares one branch.
func (f *fixture) wantRefusal(b *participant.Branch, reason string) {
	f.t.Helper()
	wantRefused(f.t, f.prepare(b)[0], reason)
}

func wantRefused(t *testing.T, r participant.Result, reason string) {
	t.Helper()
	if !errors.Is(r.Err, participant.ErrRefused) || !strings.Contains(r.Err.Error(), reason) {
		t.Fatalf("prepare gave %v, %v; want a refusal with %q", r.Vote, r.Err, reason)
	}
}

func (f *fixture) finish(commit bool, txs ...messages.ID) {
	f.t.Helper()
	var outcomes []participant.Outcome
	for _, tx := range txs {
		outcomes = append(outcomes, participant.Outcome{Tx: tx, Commit: commit})
	}
	if err := errors.Join(f.FinishBatch(f.t.Context(), outcomes)...); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) wantAccount(name string, want Account) {
	f.t.Helper()
	all, err := f.Accounts()
	if err != nil {
		f.t.Fatal(err)
	}
	if all[name] != want {
		f.t.Errorf("account %s is %+v, want %+v", name, all[name], want)
	}
}

// wantCommits runs something and counts the commits of the file, each of which syncs the disk.
func (f *fixture) wantCommits(want int, during func()) {
	f.t.Helper()
	before := f.commits()
	during()
	if got := f.commits() - before; got != want {
		f.t.Errorf("%d commits of the file, want %d", got, want)
	}
}

func (f *fixture) commits() (id int) {
	f.t.Helper()
	err := f.file.View(func(tx *bbolt.Tx) error {
		id = tx.ID()
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// branch is one with an entry for each operation.
func branch(entries ...Entry) *participant.Branch {
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.UnixMilli(time.Now().Add(time.Hour).UnixMilli())}
	for _, e := range entries {
		payload, err := json.Marshal(e)
		if err != nil {
			panic(err)
		}
		b.Operations = append(b.Operations, messages.Operation{Payload: payload})
	}
	return b
}

func TestCommitMovesTheMoney(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	b := branch(Entry{"alice", -300}, Entry{"bob", 100})
	f.wantVote(b, participant.Yes)
	f.wantAccount("alice", Account{Balance: 1000, Outgoing: 300})
	f.wantAccount("bob", Account{Balance: 1000, Incoming: 100})
	f.finish(true, b.Tx)
	f.wantAccount("alice", Account{Balance: 700})
	f.wantAccount("bob", Account{Balance: 1100})
}

func TestRollbackLiftsTheHolds(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	b := branch(Entry{"alice", -1000}, Entry{"bob", 100})
	f.wantVote(b, participant.Yes)
	f.wantRefusal(branch(Entry{"alice", -1}), `account "alice" is overdrawn: 1 cents wanted, 0 free`)
	f.finish(false, b.Tx)
	f.wantAccount("alice", Account{Balance: 1000})
	f.wantAccount("bob", Account{Balance: 1000})
	f.wantVote(branch(Entry{"alice", -1000}), participant.Yes)
}

func TestRefusals(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	if err := f.OpenAccounts(MaxCents, "rich"); err != nil {
		t.Fatal(err)
	}
	noPayload := branch(Entry{})
	noPayload.Operations[0].Payload = nil
	noJSON := branch(Entry{})
	noJSON.Operations[0].Payload = json.RawMessage(`{"account":"alice","cents":"many"}`)
	unknownField := branch(Entry{})
	unknownField.Operations[0].Payload = json.RawMessage(`{"account":"alice","cents":-5,"currency":"EUR"}`)
	for reason, b := range map[string]*participant.Branch{
		`payload of operation 0: json: unknown field "currency"`:     unknownField,
		"overdrawn: 1001 cents wanted, 1000 free":                    branch(Entry{"alice", -1001}),
		"overdrawn: 600 cents wanted, 500 free":                      branch(Entry{"alice", -500}, Entry{"alice", -600}),
		"overdrawn: 1100 cents wanted, 1000 free":                    branch(Entry{"alice", 100}, Entry{"alice", -1100}), // promised is not had
		`no account "carol"`:                                         branch(Entry{"alice", -1}, Entry{"carol", 1}),
		`no account ""`:                                              branch(Entry{"", 1}),
		`account "rich" is full: 1 cents wanted, room for 0`:         branch(Entry{"rich", 1}),
		"9007199254740993 cents: an entry may move at most":          branch(Entry{"bob", MaxCents + 1}),
		"-9223372036854775808 cents: an entry may move at most":      branch(Entry{"bob", -1 << 63}),
		"operation 0 has no payload":                                 noPayload,
		"payload of operation 0: json: cannot unmarshal string":      noJSON,
		`account "bob" is full: 9007199254740992 cents wanted, room`: branch(Entry{"bob", MaxCents}),
	} {
		f.wantCommits(0, func() { f.wantRefusal(b, reason) })
		f.finish(false, b.Tx) // a rollback after a refusal finds nothing
	}
	f.wantAccount("alice", Account{Balance: 1000})
	f.wantAccount("bob", Account{Balance: 1000})
}

func TestPrepareAgain(t *testing.T) {
	f := newFixture(t, "alice")
	b := branch(Entry{"alice", -600})
	f.wantVote(b, participant.Yes)
	f.wantCommits(0, func() { f.wantVote(b, participant.Yes) })
	f.wantAccount("alice", Account{Balance: 1000, Outgoing: 600})
}

func TestPrepareAfterTheEnd(t *testing.T) {
	for _, commit := range []bool{true, false} {
		f := newFixture(t, "alice")
		b := branch(Entry{"alice", -600})
		f.wantVote(b, participant.Yes)
		f.finish(commit, b.Tx)
		want := Account{Balance: 1000}
		if commit {
			want.Balance = 400
		}
		f.reopen()
		f.wantCommits(0, func() { f.wantVote(b, participant.Yes) }) // also where it would not be covered any more
		f.wantAccount("alice", want)
		f.finish(!commit, b.Tx) // whoever is mistaken now changes nothing
		f.wantAccount("alice", want)
	}
}

func TestFinishAgainAndUnknown(t *testing.T) {
	f := newFixture(t, "alice")
	b := branch(Entry{"alice", -600})
	f.wantVote(b, participant.Yes)
	f.wantCommits(1, func() { f.finish(true, b.Tx) })
	f.wantCommits(0, func() {
		f.finish(true, b.Tx)
		f.finish(true, messages.NewID())
		f.finish(false, messages.NewID())
	})
	f.wantAccount("alice", Account{Balance: 400})
}

// A rollback may overtake its prepare. The store takes no notice: the yes that follows brings the rollback again.
func TestRollbackBeforePrepare(t *testing.T) {
	f := newFixture(t, "alice")
	b := branch(Entry{"alice", -600})
	f.finish(false, b.Tx)
	f.wantVote(b, participant.Yes)
	f.finish(false, b.Tx)
	f.wantAccount("alice", Account{Balance: 1000})
}

func TestBatchIsOneCommit(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	first, second := branch(Entry{"alice", -600}), branch(Entry{"alice", -600})
	third, fourth := branch(Entry{"bob", -600}), branch(Entry{"alice", -400}, Entry{"bob", -400})
	var results []participant.Result
	f.wantCommits(1, func() { results = f.prepare(first, second, third, fourth) })
	for _, i := range []int{0, 2, 3} {
		if results[i].Vote != participant.Yes || results[i].Err != nil {
			t.Errorf("branch %d: %v, %v; want a yes", i, results[i].Vote, results[i].Err)
		}
	}
	wantRefused(t, results[1], "overdrawn: 600 cents wanted, 400 free")
	f.wantAccount("alice", Account{Balance: 1000, Outgoing: 1000})
	f.wantCommits(1, func() { f.finish(true, first.Tx, second.Tx, third.Tx, fourth.Tx) })
	f.wantAccount("alice", Account{})
	f.wantAccount("bob", Account{})
}

func TestReadOnly(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	read := branch(Entry{"alice", 0}, Entry{"bob", 0})
	f.wantCommits(0, func() { f.wantVote(read, participant.ReadOnly) })
	f.wantRefusal(branch(Entry{"carol", 0}), `no account "carol"`)

	mixed := branch(Entry{"alice", 0}, Entry{"bob", 5})
	f.wantVote(mixed, participant.Yes)
	f.finish(true, mixed.Tx)
	f.wantAccount("bob", Account{Balance: 1005})
}

func TestCrashKeepsWhatIsPrepared(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	one, two, refused := branch(Entry{"alice", -600}), branch(Entry{"bob", 10}), branch(Entry{"alice", -600})
	f.wantVote(one, participant.Yes)
	f.wantVote(two, participant.Yes)
	f.wantRefusal(refused, "overdrawn")
	f.reopen()
	txs, err := f.InDoubt(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(txs) != 2 || txs[0].Tx != one.Tx || txs[1].Tx != two.Tx {
		t.Errorf("in doubt are %v, want %v", txs, []messages.ID{one.Tx, two.Tx})
	}
	f.finish(true, one.Tx)
	f.finish(false, two.Tx)
	f.reopen()
	f.wantAccount("alice", Account{Balance: 400})
	f.wantAccount("bob", Account{Balance: 1000})
	if txs, err := f.InDoubt(t.Context()); len(txs) != 0 || err != nil {
		t.Errorf("in doubt are %v, %v; want none", txs, err)
	}
	all, err := f.Finished()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || !all[one.Tx] || all[two.Tx] {
		t.Errorf("finished are %v", all)
	}
}

func TestFinishedAreForgottenOnceExpired(t *testing.T) {
	f := newFixture(t, "alice")
	remembered := func(want ...messages.ID) {
		t.Helper()
		all, err := f.Finished()
		if err != nil {
			t.Fatal(err)
		}
		for _, tx := range want {
			if _, ok := all[tx]; !ok {
				t.Errorf("%s is forgotten", tx)
			}
		}
		if len(all) != len(want) {
			t.Errorf("%d are remembered, want %d", len(all), len(want))
		}
	}
	past, future := branch(Entry{"alice", 1}), branch(Entry{"alice", 1})
	past.Expires = time.Now().Add(-time.Minute)
	f.wantVote(past, participant.Yes)
	f.wantVote(future, participant.Yes)
	f.finish(true, future.Tx)
	remembered(future.Tx)
	f.finish(true, past.Tx)
	remembered(future.Tx)

	f.Remember = time.Hour // for who wants to audit it
	audited := branch(Entry{"alice", 1})
	audited.Expires = past.Expires
	f.wantVote(audited, participant.Yes)
	f.finish(true, audited.Tx)
	remembered(future.Tx, audited.Tx)
}

func TestTotals(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	if err := f.OpenAccounts(5, "alice", "carol"); err != nil { // alice exists
		t.Fatal(err)
	}
	f.wantVote(branch(Entry{"alice", -30}, Entry{"bob", 20}), participant.Yes)
	got, err := f.Totals()
	want := Totals{Account{Balance: 2005, Outgoing: 30, Incoming: 20}, 3, 1}
	if got != want || err != nil {
		t.Errorf("totals are %+v, %v; want %+v", got, err, want)
	}
	if f.OpenAccounts(-1, "dave") == nil || f.OpenAccounts(MaxCents+1, "dave") == nil || f.OpenAccounts(1, "") == nil {
		t.Error("an account with an impossible balance or no name was opened")
	}
}

func TestWatermark(t *testing.T) {
	f := newFixture(t)
	if incarnation, sequence, err := f.Watermark(t.Context(), "log"); incarnation != "" || sequence != 0 || err != nil {
		t.Errorf("an empty store has %q, %d, %v", incarnation, sequence, err)
	}
	if err := f.SetWatermark(t.Context(), "log", "first", 7); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	if incarnation, sequence, err := f.Watermark(t.Context(), "log"); incarnation != "first" || sequence != 7 || err != nil {
		t.Errorf("kept %q, %d, %v", incarnation, sequence, err)
	}
}

// What the file's own errors do: the branch that meets them is asked again, and the outcomes of the batch are, for none of
// them is kept.
func TestDamage(t *testing.T) {
	f := newFixture(t, "alice", "bob")
	good, bad := branch(Entry{"alice", -1}), branch(Entry{"bob", -1})
	f.wantVote(bad, participant.Yes)
	garbage := tables.Table[string](accounts)
	err := f.file.Update(func(w *tables.Writer) error { return garbage.Put(w, handover.Key("bob"), "garbage") })
	if err != nil {
		t.Fatal(err)
	}
	results := f.prepare(good, branch(Entry{"bob", -1}))
	if r := results[0]; r.Vote != participant.Yes || r.Err != nil {
		t.Errorf("alice's branch: %v, %v; want a yes", r.Vote, r.Err)
	}
	if r := results[1]; r.Err == nil || errors.Is(r.Err, participant.ErrRefused) {
		t.Errorf("bob's branch: %v, %v; want an error that is no refusal", r.Vote, r.Err)
	}
	errs := f.FinishBatch(t.Context(), []participant.Outcome{{Tx: good.Tx, Commit: true}, {Tx: bad.Tx, Commit: true}})
	if errs[0] == nil || errs[1] == nil || !strings.Contains(errs[0].Error(), "damaged: accounts") || !strings.Contains(errs[0].Error(), `bob"`) {
		t.Errorf("finish gave %v", errs)
	}
	if all, err := f.Finished(); len(all) != 0 || err != nil {
		t.Errorf("finished are %v, %v", all, err)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	f := newFixture(t)
	_, err := open(f.path, 0, &bbolt.Options{Timeout: time.Nanosecond})
	if err == nil || !strings.Contains(err.Error(), f.path) {
		t.Errorf("a second open gave %v", err)
	}
	if _, err := Open(t.TempDir(), 0); err == nil {
		t.Error("a directory was opened")
	}
}
