// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// machine drives two instances of a store, one of which crashes now and then in the middle of what it does, with everything
// that a participant may be asked, in any order, and a model beside them: the state of each branch. All else follows from that.
type machine struct {
	*shop           // the instance that never crashes
	crashing *Store // the other one
	tap      *tap   // of the other one
	name     string // the participant's, and of its rows of stock: each run has its own
	branches []*participant.Branch
	states   map[messages.ID]string
	through  int64 // the youngest id that was reaped
}

// forgotten is the model's state of what was reaped.
const forgotten = "forgotten"

var skus = []string{"x", "y"}

func TestModel(t *testing.T) {
	for on, runs := range map[*system]int{onSQLite: 1 << 30, onMariaDB: 4, onPostgres: 4} {
		if testing.Short() {
			runs = min(runs, 20)
		}
		t.Run(on.name, func(t *testing.T) {
			dsn := on.dsn(t)
			db := on.openAt(t, dsn)
			makeStock(t, db)
			tapped, tap := on.openTapped(t, dsn)
			run, failed := 0, false
			rapid.Check(t, func(t *rapid.T) {
				if run++; run > runs && !failed { // a server that syncs takes its time
					return
				}
				ended := false
				defer func() { failed = failed || !ended }()
				m := &machine{shop: &shop{on: on, db: db}, tap: tap, name: fmt.Sprint("run", run), states: make(map[messages.ID]string)}
				m.start(t, tapped)
				t.Repeat(map[string]func(*rapid.T){
					"prepare": m.prepare, "commit": m.commit, "rollback": m.rollback, "reap": m.reap, "crash": m.crash, "": m.compare,
				})
				ended = true
			})
		})
	}
}

func (m *machine) start(t *rapid.T, tapped *sql.DB) {
	ctx := context.Background()
	for _, sku := range skus {
		if _, err := m.db.ExecContext(ctx, `INSERT INTO stock VALUES ('`+m.name+sku+`', 10, 0, 0)`); err != nil {
			t.Fatal(err)
		}
	}
	q := m.on.quantity()
	each := func(do func(context.Context, *sql.Tx, any, int64) error) Func {
		return Each(func(ctx context.Context, tx *sql.Tx, o order) error {
			if o.Pieces == 0 {
				return nil
			}
			return do(ctx, tx, o.SKU, o.Pieces)
		})
	}
	try := each(q.Try)
	cfg := Config{
		Name: m.name, Dialect: m.on.dialect, Patience: time.Millisecond, Confirm: each(q.Confirm), Cancel: each(q.Cancel),
		Try: func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
			if !changes(b) {
				return ErrNothing
			}
			return try(ctx, tx, b)
		},
	}
	var err, err2 error
	m.Store, err = Open(ctx, m.db, cfg)
	m.tap.set(nil)
	m.crashing, err2 = Open(ctx, tapped, cfg)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}

func orders(b *participant.Branch) []order {
	all := make([]order, len(b.Operations))
	for i := range all {
		if err := json.Unmarshal(b.Operations[i].Payload, &all[i]); err != nil {
			panic(err)
		}
	}
	return all
}

func changes(b *participant.Branch) bool {
	return slices.ContainsFunc(orders(b), func(o order) bool { return o.Pieces != 0 })
}

// draw gives a branch that was there before, or a new one.
func (m *machine) draw(t *rapid.T) *participant.Branch {
	known := slices.DeleteFunc(slices.Clone(m.branches), func(b *participant.Branch) bool { return m.states[b.Tx] == forgotten })
	if len(known) > 0 && rapid.Bool().Draw(t, "again") {
		return rapid.SampledFrom(known).Draw(t, "branch")
	}
	b := &participant.Branch{Tx: messages.NewID(), Expires: time.Now().Add(-time.Hour), Sole: rapid.Bool().Draw(t, "sole")}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"k1", "k2", "k3"}), 0, 3, rapid.ID[string])
	for i := range rapid.IntRange(1, 3).Draw(t, "operations") {
		o := order{m.name + rapid.SampledFrom(skus).Draw(t, "sku"), rapid.SampledFrom([]int64{0, 1, 2, 5, 11, -1, -4}).Draw(t, "pieces")}
		b.Operations = append(b.Operations, messages.Operation{Payload: fmt.Appendf(nil, `{"sku":%q,"pieces":%d}`, o.SKU, o.Pieces)})
		if i == 0 {
			b.Operations[0].Keys = names.Draw(t, "keys")
		} else {
			b.Operations[i].Shared = names.Draw(t, "shared")
		}
	}
	m.branches = append(m.branches, b)
	return b
}

func (m *machine) instance(t *rapid.T) *Store {
	if rapid.Bool().Draw(t, "other") {
		return m.crashing
	}
	return m.Store
}

// answer is what the model says to a prepare.
func (m *machine) answer(b *participant.Branch) (after string, vote participant.Vote, err error) {
	switch state := m.states[b.Tx]; {
	case state == cancelled:
		return state, 0, participant.ErrRefused
	case state != "":
		return state, participant.Yes, nil
	case m.locked(b):
		return "", 0, participant.ErrConflict
	case !changes(b) && b.Isolated():
		return held, participant.Yes, nil
	case !changes(b):
		return "", participant.ReadOnly, nil
	}
	free := make(map[string]int64)
	for _, sku := range skus {
		free[m.name+sku], _, _ = m.stock(m.name + sku)
	}
	for _, o := range orders(b) {
		if free[o.SKU] -= max(o.Pieces, 0); free[o.SKU] < 0 {
			return "", 0, participant.ErrRefused
		}
	}
	return tried, participant.Yes, nil
}

// locked tells whether another branch holds one of the keys.
func (m *machine) locked(b *participant.Branch) bool {
	for _, other := range m.branches {
		if state := m.states[other.Tx]; other == b || state != tried && state != held {
			continue
		}
		for _, has := range other.Keys() {
			for _, wants := range b.Keys() {
				if has.Name == wants.Name && (!has.Shared || !wants.Shared) {
					return true
				}
			}
		}
	}
	return false
}

// stock is what there is to be, from the states alone.
func (m *machine) stock(sku string) (available, reserved, incoming int64) {
	available = 10
	for _, b := range m.branches {
		for _, o := range orders(b) {
			state := m.states[b.Tx]
			if o.SKU != sku || state == "" || state == held || state == cancelled {
				continue
			}
			switch out, in := max(o.Pieces, 0), max(-o.Pieces, 0); state {
			case tried:
				available, reserved, incoming = available-out, reserved+out, incoming+in
			default:
				available = available - out + in
			}
		}
	}
	return available, reserved, incoming
}

func (m *machine) prepare(t *rapid.T) {
	b := m.draw(t)
	after, vote, want := m.answer(b)
	got, err := m.instance(t).Prepare(context.Background(), b)
	if got != vote || !errors.Is(err, want) {
		t.Fatalf("prepare of %v in state %q: %v, %v; want %v, %v", orders(b), m.states[b.Tx], got, err, vote, want)
	}
	m.states[b.Tx] = after
}

// ended is what the model says to an outcome.
func (m *machine) ended(b *participant.Branch, commit bool) (after string, err error) {
	switch state := m.states[b.Tx]; {
	case commit && (state == cancelled || state == "" && b.Tx.UnixMilli() > m.through):
		return state, participant.ErrHeuristic
	case state == confirmed || state == cancelled || commit && state == "":
		return state, nil
	case commit:
		return confirmed, nil
	}
	return cancelled, nil
}

func (m *machine) commit(t *rapid.T) {
	b := m.draw(t)
	m.end(t, b, true, m.instance(t).Commit)
}

func (m *machine) rollback(t *rapid.T) {
	b := m.draw(t)
	m.end(t, b, false, m.instance(t).Rollback)
}

func (m *machine) end(t *rapid.T, b *participant.Branch, commit bool, call func(context.Context, messages.ID) error) {
	after, want := m.ended(b, commit)
	if err := call(context.Background(), b.Tx); !errors.Is(err, want) {
		t.Fatalf("commit %v in state %q: %v, want %v", commit, m.states[b.Tx], err, want)
	}
	m.states[b.Tx] = after
}

// crash does something that ends in the middle: what is left is the state before or after.
func (m *machine) crash(t *rapid.T) {
	b := m.draw(t)
	kind := rapid.IntRange(0, 2).Draw(t, "call")
	m.tap.set(crashAt(rapid.IntRange(0, 12).Draw(t, "step")))
	var after string
	switch kind {
	case 0:
		after, _, _ = m.answer(b)
		_, _ = m.crashing.Prepare(context.Background(), b)
	case 1:
		after, _ = m.ended(b, true)
		_ = m.crashing.Commit(context.Background(), b.Tx)
	case 2:
		after, _ = m.ended(b, false)
		_ = m.crashing.Rollback(context.Background(), b.Tx)
	}
	m.tap.set(nil)
	state := m.row(t, b.Tx)
	if state != after && state != m.states[b.Tx] {
		t.Fatalf("a crash left %q, between %q and %q", state, m.states[b.Tx], after)
	}
	m.states[b.Tx] = state
}

// row is the state in the database, once nobody holds the row any more.
func (m *machine) row(t *rapid.T, id messages.ID) (state string) {
	for {
		err := m.local(context.Background(), func(ctx context.Context, tx *sql.Tx) (bool, error) {
			r, err := m.look(ctx, tx, id)
			if r != nil {
				state = r.state
			}
			return false, err
		})
		if err == nil {
			return state
		}
		if m.judge(err) != inTheWay {
			t.Fatal(err)
		}
	}
}

// reap forgets what is over.
func (m *machine) reap(t *rapid.T) {
	text := numbered(m.on.dialect, `UPDATE assent_branches SET forget = 1 WHERE forget IS NOT NULL AND participant = ?`)
	if _, err := m.db.ExecContext(context.Background(), text, m.name); err != nil {
		t.Fatal(err)
	}
	n, err := m.Reap(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range m.branches {
		if state := m.states[b.Tx]; state == confirmed || state == cancelled {
			n--
			m.through = max(m.through, b.Tx.UnixMilli())
			m.states[b.Tx] = forgotten
			if state == cancelled {
				b.Operations = []messages.Operation{{Payload: []byte(`{"sku":"none","pieces":0}`)}}
			}
			if err := m.Commit(context.Background(), b.Tx); err != nil {
				t.Fatalf("a late commit of what is forgotten: %v", err)
			}
		}
	}
	if n != 0 {
		t.Fatalf("%d more or less were forgotten than were over", n)
	}
}

// compare compares the database with what follows from the states.
func (m *machine) compare(t *rapid.T) {
	ctx := context.Background()
	for _, sku := range skus {
		a, r, i := m.stock(m.name + sku)
		var available, reserved, incoming int64
		err := m.db.QueryRowContext(ctx, `SELECT available, reserved, incoming FROM stock WHERE sku = '`+m.name+sku+`'`).Scan(&available, &reserved, &incoming)
		if err != nil || available != a || reserved != r || incoming != i {
			t.Fatalf("%s: %d available, %d reserved, %d incoming, %v; want %d, %d, %d", sku, available, reserved, incoming, err, a, r, i)
		}
	}
	doubts, err := m.InDoubt(ctx)
	if err != nil {
		t.Fatal(err)
	}
	keys := make(map[string]bool)
	for _, b := range m.branches {
		if state := m.states[b.Tx]; state != tried && state != held {
			continue
		}
		for _, key := range b.Keys() {
			keys[key.Name] = true
		}
		n := slices.IndexFunc(doubts, func(p participant.Prepared) bool { return p.Tx == b.Tx })
		if n < 0 || !slices.Equal(doubts[n].Keys, b.Keys()) {
			t.Fatalf("in doubt are %v, and should be %v with %v", doubts, b.Tx, b.Keys())
		}
		doubts = slices.Delete(doubts, n, n+1)
	}
	if len(doubts) != 0 {
		t.Fatalf("in doubt are %v, too", doubts)
	}
	var n int
	err = m.db.QueryRowContext(ctx, numbered(m.on.dialect, `SELECT COUNT(*) FROM assent_keys WHERE participant = ?`), m.name).Scan(&n)
	if err != nil || n != len(keys) {
		t.Fatalf("%d keys are held, %v; want %v", n, err, keys)
	}
}
