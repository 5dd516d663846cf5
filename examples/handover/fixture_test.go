// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/router/ring"
)

const partitions = 8

// keys is the store: a text for each key.
var keys = tables.Table[string]{Name: "keys"}

var errBusy = errors.New("a transaction holds it")

// file is a node's file. A value of "busy" is held by a transaction.
type file struct {
	*Holdings
	t    *testing.T
	path string
}

func newFile(t *testing.T) *file {
	t.Helper()
	f := &file{t: t, path: filepath.Join(t.TempDir(), "node.db")}
	f.reopen()
	t.Cleanup(func() { f.File.Close() })
	return f
}

// reopen is a crash: what was acknowledged is in the file, and nothing else is anywhere.
func (f *file) reopen() {
	f.t.Helper()
	if f.Holdings != nil {
		f.File.Close()
	}
	db, err := tables.Open(f.path, tables.Durable(), "keys", Bucket)
	if err != nil {
		f.t.Fatal(err)
	}
	f.Holdings = &Holdings{Group: "shop", Partitions: partitions, File: db, Bucket: "keys", Busy: func(_ string, value []byte) error {
		if string(value) == `"busy"` {
			return errBusy
		}
		return nil
	}}
}

// put writes keys as a store would.
func (f *file) put(values map[string]string) {
	f.t.Helper()
	err := f.File.Update(func(w *tables.Writer) error {
		for name, value := range values {
			if err := keys.Put(w, Key(name), value); err != nil {
				return err
			}
		}
		return nil
	})
	f.must(err)
}

func (f *file) remove(name string) {
	f.t.Helper()
	f.must(f.File.Update(func(w *tables.Writer) error { return keys.Remove(w, Key(name)) }))
}

// all are the keys in the file.
func (f *file) all() map[string]string {
	f.t.Helper()
	all := make(map[string]string)
	f.must(f.File.View(func(tx *bbolt.Tx) error {
		return keys.Each(tx, func(key []byte, value string) error {
			all[Name(key)] = value
			return nil
		})
	}))
	return all
}

func (f *file) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *file) want(values map[string]string) {
	f.t.Helper()
	if got := f.all(); !maps.Equal(got, values) {
		f.t.Errorf("the file has %v, want %v", got, values)
	}
}

func (f *file) wantPhase(partition int, want phase) {
	f.t.Helper()
	var s state
	f.must(f.File.View(func(tx *bbolt.Tx) (err error) {
		s, _, err = states.Get(tx, stateKey(partition))
		return err
	}))
	if s.Phase != want {
		f.t.Errorf("partition %d is %q, want %q", partition, s.Phase, want)
	}
}

// wantError holds an error to the one that is meant.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// pages are all pages of a partition, small ones.
func (f *file) pages(partition int, since Version, size int) (pages []*Page) {
	f.t.Helper()
	page, _, err := f.page(partition, since, nil)
	f.must(err)
	for rest := page.Items; ; rest = rest[size:] {
		p := *page
		p.Items = rest[:min(size, len(rest))]
		if p.Last = len(rest) <= size; p.Last {
			p.Total = len(page.Items)
			return append(pages, &p)
		}
		pages = append(pages, &p)
	}
}

// names are some that belong to a partition.
func names(partition, n int) (names []string) {
	for i := 0; len(names) < n; i++ {
		if name := fmt.Sprint("key-", i); ring.PartitionOf(ring.Hash(name), partitions) == partition {
			names = append(names, name)
		}
	}
	return names
}

func values(partition, n int) map[string]string {
	all := make(map[string]string)
	for i, name := range names(partition, n) {
		all[name] = fmt.Sprint("value ", i)
	}
	return all
}

func at(epoch uint64) Version { return Version{1, epoch} }
