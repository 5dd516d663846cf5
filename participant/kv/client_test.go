// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/participant"
)

func TestTxn(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	w.put("a", "x", "1")
	w.put("b", "gone", "1")
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		x, err := tx.Get(w.ctx(), "a", "x")
		if err != nil || string(x.Value) != "1" || x.Revision == 0 || x.Created.IsZero() {
			t.Errorf("x: %+v, %v", x, err)
		}
		if _, err := tx.Get(w.ctx(), "b", "y"); !errors.Is(err, ErrKeyNotFound) {
			t.Errorf("y: %v", err)
		}
		must(t, tx.Put("a", "x", []byte("2")))
		must(t, tx.Put("b", "y", []byte("3")))
		must(t, tx.Put("b", "empty", nil))
		must(t, tx.Delete("b", "gone"))
		// It reads what it has written.
		if x, err := tx.Get(w.ctx(), "a", "x"); err != nil || string(x.Value) != "2" || x.Revision != 0 {
			t.Errorf("x, written: %+v, %v", x, err)
		}
		if _, err := tx.Get(w.ctx(), "b", "gone"); !errors.Is(err, ErrKeyNotFound) {
			t.Errorf("gone, deleted: %v", err)
		}
		w.want("a", "x", "1")
		return nil
	}))
	// A transaction that begins later sees it, whether or not it is applied yet.
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		for key, want := range map[string]string{"a/x": "2", "b/y": "3", "b/empty": "", "b/gone": "nothing"} {
			bucket, name, _ := strings.Cut(key, "/")
			e, err := tx.Get(w.ctx(), bucket, name)
			if want == "nothing" && !errors.Is(err, ErrKeyNotFound) || want != "nothing" && string(e.Value) != want {
				return assent.ErrConflict // not yet: as a read that is not up to date
			}
		}
		return nil
	}))
}

func TestTxnErrors(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	own := errors.New("my own")
	if err := w.client.Txn(w.ctx(), func(tx *Tx) error {
		must(t, tx.Put("a", "x", []byte("1")))
		return own
	}); !errors.Is(err, own) {
		t.Errorf("the function's error: %v", err)
	}
	must(t, w.client.Txn(w.ctx(), func(*Tx) error { return nil }))
	for name, c := range map[string]struct {
		do   func(tx *Tx) error
		want error
		text string
	}{
		"unknown bucket, read":    {func(tx *Tx) error { _, err := tx.Get(w.ctx(), "nowhere", "x"); return err }, ErrNoBucket, "bucket nowhere"},
		"unknown bucket, written": {func(tx *Tx) error { return tx.Put("nowhere", "x", nil) }, assent.ErrAborted, "there is no such bucket"},
		"bad key":                 {func(tx *Tx) error { return tx.Put("a", "x y", nil) }, ErrInvalid, `key "x y"`},
		"bad key, read":           {func(tx *Tx) error { _, err := tx.Get(w.ctx(), "a", ">"); return err }, ErrInvalid, `key ">"`},
		"bad key, deleted":        {func(tx *Tx) error { return tx.Delete("a", "") }, ErrInvalid, `key ""`},
		"too large":               {func(tx *Tx) error { return tx.Put("a", "x", make([]byte, 256<<10)) }, assent.ErrTooLarge, ""},
		"too many keys": {func(tx *Tx) error {
			for i := range 1025 {
				must(t, tx.Put("a", strconv.Itoa(i), nil))
			}
			return nil
		}, assent.ErrInvalid, "1024"},
	} {
		err := w.client.Txn(w.ctx(), c.do)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, cfg := range []ClientConfig{{Participant: "a b"}} {
		if _, err := NewClient(w.assent, w.nc, cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
	for _, cfg := range []Config{{Name: "a b"}, {Prefix: "a..b"}, {Buckets: []string{"a.b"}}, {Lease: -1}} {
		if _, err := New(w.nc, cfg); err == nil {
			t.Errorf("%+v is taken", cfg)
		}
	}
}

// A read that another transaction has made old is read again.
func TestRetry(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	for _, readOnly := range []bool{false, true} {
		calls := 0
		w.put("a", "x", "1")
		must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
			calls++
			x, err := tx.Get(w.ctx(), "a", "x")
			if err != nil {
				return err
			}
			if calls == 1 {
				w.put("a", "x", "7")
			}
			if again, err := tx.Get(w.ctx(), "a", "x"); err != nil || string(again.Value) != string(x.Value) {
				t.Errorf("read again it is %s, %v", again.Value, err)
			}
			if readOnly {
				return nil
			}
			return tx.Put("b", "x", x.Value)
		}))
		if calls != 2 {
			t.Errorf("%d calls", calls)
		}
	}
	w.until(func() bool { return string(w.last("b", "x").value) == "7" })
}

// An error that comes of a read which is not up to date is no answer: the function runs again.
func TestErrorOfAnOldRead(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	poor := errors.New("not enough money")
	w.put("a", "x", "1")
	calls := 0
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		calls++
		n, err := number(w.ctx(), tx, "a", "x")
		if calls == 1 {
			w.put("a", "x", "100")
		}
		if err == nil && n < 50 {
			err = poor
		}
		return err
	}))
	if calls != 2 {
		t.Errorf("%d calls", calls)
	}
	if err := w.client.Txn(w.ctx(), func(tx *Tx) error {
		_, err := tx.Get(w.ctx(), "a", "x")
		return errors.Join(err, poor)
	}); !errors.Is(err, poor) {
		t.Errorf("an error that is true: %v", err)
	}
}

// A bigger transaction, of buckets and other participants.
func TestBegin(t *testing.T) {
	w := newWorld(t)
	w.participate(w.connect(), Config{})
	w.participate(w.connect(), Config{Name: "kv2"})
	must(t, w.assent.Do(w.ctx(), func(outer *assent.Tx) error {
		tx := w.client.Begin(outer)
		if _, err := number(w.ctx(), tx, "a", "read"); err != nil {
			return err
		}
		must(t, tx.Put("a", "x", []byte("1")))
		if !tx.Finish() {
			t.Error("there was nothing to do")
		}
		Enlist(outer, "kv2", Operation{Writes: []Write{{Bucket: "b", Key: "y", Value: []byte("2")}}})
		return nil
	}))
	w.until(func() bool { return string(w.last("a", "x").value) == "1" && string(w.last("b", "y").value) == "2" })
	// A read alone is prepared too when there are others: its key stays locked until the outcome.
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		_, err := tx.Get(w.ctx(), "a", "x")
		tx.Enlist("kv2", Operation{Writes: []Write{{Bucket: "b", Key: "y", Value: []byte("3")}}}, assent.Keys(KeyName("b", "y")))
		return err
	}))
	w.until(func() bool { return string(w.last("b", "y").value) == "3" })
}

// slow is a participant whose prepare takes until it is told.
type slow struct{ release chan struct{} }

func (s slow) Prepare(ctx context.Context, _ *participant.Branch) (participant.Vote, error) {
	select {
	case <-s.release:
		return participant.Yes, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (slow) Commit(context.Context, assent.ID) error   { return nil }
func (slow) Rollback(context.Context, assent.ID) error { return nil }

// With NoWait a transaction that meets a held key hears of it while the key is held, and Txn tries it again until it is free.
func TestTxnNoWait(t *testing.T) {
	w := newWorld(t)
	p, _ := w.participate(w.connect(), Config{NoWait: true})
	s := slow{make(chan struct{})}
	other, err := participant.New(w.connect(), participant.Config{Name: "slow", Handler: s})
	must(t, err)
	run(t, other.Run, other.Ready())

	first := w.assent.Begin()
	Enlist(first, DefaultName, writes(set("a", "x", "1")))
	first.Enlist("slow", nil)
	ended := make(chan error, 1)
	go func() { ended <- first.Commit(w.ctx()) }()
	look, deadline := time.NewTicker(time.Millisecond), w.ctx()
	defer look.Stop()
	for p.Stats().Open == 0 {
		select {
		case <-look.C:
		case <-deadline.Done():
			t.Fatal("the first is not prepared")
		}
	}
	second := w.assent.Begin()
	Enlist(second, DefaultName, writes(set("a", "x", "2")))
	began := time.Now()
	if err := second.Commit(w.ctx()); !errors.Is(err, assent.ErrConflict) || time.Since(began) > 20*time.Second { // waiting for the key ends after 29 s
		t.Errorf("after %v: %v; want a conflict at once", time.Since(began), err)
	}
	attempts := 0
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) error {
		if attempts++; attempts == 4 {
			select {
			case err := <-ended:
				t.Errorf("the first has ended: %v", err)
			default:
			}
			close(s.release)
		}
		n, err := number(w.ctx(), tx, "a", "x")
		if err != nil {
			return err
		}
		return tx.Put("a", "x", strconv.AppendInt(nil, int64(n+2), 10))
	}))
	must(t, <-ended)
	if attempts < 4 {
		t.Errorf("it got through in %d attempts, and in less than 4 the key was held", attempts)
	}
	n := 0
	must(t, w.client.Txn(w.ctx(), func(tx *Tx) (err error) {
		n, err = number(w.ctx(), tx, "a", "x")
		return err
	}))
	if n != 3 {
		t.Errorf("x is %d, want 3", n)
	}
}
