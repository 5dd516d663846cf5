// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
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

// A partition is a range of keys, for every number of partitions: that where it begins is its own, and what comes just before
// is not.
func TestFirst(t *testing.T) {
	for _, count := range []int{1, 2, 3, 7, 8, 100, 4096, 4099, 65535, 65536} {
		for _, partition := range []int{0, 1, count / 3, count / 2, count - 1} {
			if partition >= count {
				continue
			}
			key := first(partition, count)
			if got := partitionOf(key, count); got != partition {
				t.Errorf("partition %d of %d begins in partition %d", partition, count, got)
			}
			before := bytes.Clone(key)
			for i := len(before) - 1; i >= 0; i-- {
				if before[i]--; before[i] != 0xff {
					break
				}
			}
			if got := partitionOf(before, count); partition > 0 && got != partition-1 {
				t.Errorf("before partition %d of %d is partition %d", partition, count, got)
			}
		}
	}
}

func TestHandover(t *testing.T) {
	from, to := newFile(t), newFile(t)
	moving, staying := values(3, 5), values(4, 2)
	if from.acquire(3, at(1)) || from.acquire(4, at(1)) {
		t.Error("a new partition was handed over by somebody")
	}
	from.put(moving)
	from.put(staying)
	for _, page := range from.pages(3, at(5), 2) {
		to.wantNotHeld(names(3, 1)[0])
		to.must(to.Take(page))
		to.reopen()
	}
	from.must(from.Release(3, at(5)))
	from.wantNotHeld(names(3, 1)[0])
	to.wantNotHeld(names(3, 1)[0])
	if !to.acquire(3, at(6)) || !to.acquire(3, at(7)) {
		t.Error("the partition is not whole")
	}
	to.want(moving)
	to.wantHeld(names(3, 1)[0])
	from.must(from.Drop(3, at(5)))
	from.want(staying)
	from.wantHeld(names(4, 1)[0])
	for f, want := range map[*file][]int{from: {4}, to: {3}} {
		if got, err := f.Held(); err != nil || !slices.Equal(got, want) {
			t.Errorf("held are %v, %v; want %v", got, err, want)
		}
		if copies, err := f.released(); err != nil || len(copies) > 0 {
			t.Errorf("copies are %v, %v; want none", copies, err)
		}
	}
}

// acquire tells whether the partition is whole.
func (f *file) acquire(partition int, ring Version) bool {
	f.t.Helper()
	whole, err := f.Acquire(partition, ring)
	f.must(err)
	return whole
}

func (f *file) holds(name string) error {
	return f.File.View(func(tx *bbolt.Tx) error { return f.Holds(tx, name) })
}

func (f *file) wantHeld(name string) {
	f.t.Helper()
	f.must(f.holds(name))
}

func (f *file) wantNotHeld(name string) {
	f.t.Helper()
	wantError(f.t, f.holds(name), ErrNotHeld)
}

// Each page comes twice, and all of them again, after a crash of the sender in the middle; none is lost by that.
func TestPagesComeAgain(t *testing.T) {
	from, to := newFile(t), newFile(t)
	moving := values(3, 7)
	from.put(moving)
	pages := from.pages(3, at(5), 2)
	for _, page := range slices.Concat(pages[:2], pages[:2], pages[:1], pages, pages, pages[:1]) {
		to.must(to.Take(page))
	}
	to.acquire(3, at(6))
	to.want(moving)

	// What comes after that is too late, and changes nothing.
	to.put(map[string]string{names(3, 1)[0]: "written by the new owner"})
	moving[names(3, 1)[0]] = "written by the new owner"
	for _, page := range pages {
		wantError(t, to.Take(page), errSuperseded)
	}
	to.want(moving)
	to.wantPhase(3, held)
}

func TestPageIsMissing(t *testing.T) {
	from, to := newFile(t), newFile(t)
	from.put(values(3, 7))
	pages := from.pages(3, at(5), 2)
	to.must(to.Take(pages[0]))
	wantError(t, to.Take(pages[3]), errIncomplete)
	wantError(t, to.Release(3, at(7)), errIncomplete)
	if _, _, err := to.page(3, at(7), nil); !errors.Is(err, errIncomplete) {
		t.Errorf("what has not arrived was read: %v", err)
	}
	for _, page := range pages {
		to.must(to.Take(page))
	}
	if !to.acquire(3, at(6)) {
		t.Error("the partition is not whole")
	}
}

// The owner was removed by force when half of the partition had been pushed: what has arrived is of no use, and the next owner
// begins with nothing, and says so.
func TestOwnerIsGone(t *testing.T) {
	from, to := newFile(t), newFile(t)
	from.put(values(3, 7))
	to.put(values(4, 1))
	to.must(to.Take(from.pages(3, at(5), 2)[0]))
	if to.acquire(3, at(6)) {
		t.Error("a part was taken for the whole")
	}
	to.want(values(4, 1))
	to.wantHeld(names(3, 1)[0])
}

// A move is cancelled when half of the partition has been pushed; the owner goes on, and the next move brings what is then
// there, and nothing of the first.
func TestCancelledMove(t *testing.T) {
	from, to := newFile(t), newFile(t)
	moving := values(3, 6)
	from.acquire(3, at(1))
	from.put(moving)
	old := from.pages(3, at(5), 2)
	to.must(to.Take(old[0]))
	from.acquire(3, at(6))

	gone, written := names(3, 6)[0], names(3, 6)[1]
	from.remove(gone)
	delete(moving, gone)
	from.put(map[string]string{written: "anew"})
	moving[written] = "anew"
	for _, page := range from.pages(3, at(8), 2) {
		to.must(to.Take(page))
		wantError(t, to.Take(old[1]), errSuperseded)
	}
	to.acquire(3, at(9))
	to.want(moving)
}

// A partition was released, and the target died before it was its own: the owner acquires again what it kept.
func TestCancelledAfterRelease(t *testing.T) {
	from := newFile(t)
	moving := values(3, 6)
	from.acquire(3, at(1))
	from.put(moving)
	from.must(from.Release(3, at(5)))
	from.reopen()
	from.wantNotHeld(names(3, 1)[0])
	if !from.acquire(3, at(6)) {
		t.Error("the copy was not kept")
	}
	from.wantHeld(names(3, 1)[0])
	from.must(from.Drop(3, at(5))) // late, and about a move that came to nothing
	from.want(moving)
	from.wantHeld(names(3, 1)[0])
	wantError(t, from.Release(3, at(5)), errSuperseded)
	from.wantHeld(names(3, 1)[0])
}

// There and back: the copy that was not dropped gives way to what comes back, and a drop that is late does not touch that.
func TestBackAgain(t *testing.T) {
	a, b := newFile(t), newFile(t)
	moving := values(3, 6)
	a.put(moving)
	move := func(from, to *file, since uint64) {
		t.Helper()
		for _, page := range from.pages(3, at(since), 4) {
			to.must(to.Take(page))
		}
		from.must(from.Release(3, at(since)))
		if !to.acquire(3, at(since+1)) {
			t.Errorf("after the move since %d the partition is not whole", since)
		}
	}
	a.acquire(3, at(1))
	move(a, b, 5)
	b.remove(names(3, 1)[0])
	delete(moving, names(3, 1)[0])
	move(b, a, 7)
	a.must(a.Drop(3, at(5)))
	a.want(moving)
	a.wantHeld(names(3, 2)[1])
	b.must(b.Drop(3, at(7)))
	b.must(b.Drop(3, at(7)))
	b.want(map[string]string{})
	b.wantPhase(3, absent)
}

// A group that was deleted and made again begins with epoch 1, and is later all the same.
func TestLaterIncarnation(t *testing.T) {
	to := newFile(t)
	to.acquire(3, Version{1, 900})
	to.must(to.Take(&Page{Group: "shop", Partition: 3, Since: Version{2, 4}, Last: true}))
	wantError(t, to.Take(&Page{Group: "shop", Partition: 3, Since: Version{1, 999}, Last: true}), errSuperseded)
	to.acquire(3, Version{2, 5})
}

// What a transaction holds neither leaves nor is replaced.
func TestBusyStays(t *testing.T) {
	f := newFile(t)
	f.acquire(3, at(1))
	busy := map[string]string{names(3, 2)[0]: "free", names(3, 2)[1]: "busy"}
	f.put(busy)
	if _, _, err := f.page(3, at(5), nil); !errors.Is(err, errBusy) {
		t.Errorf("it was read to be pushed: %v", err)
	}
	wantError(t, f.Take(&Page{Group: "shop", Partition: 3, Since: at(9), Last: true}), errBusy)
	f.must(f.Release(3, at(5)))
	wantError(t, f.Drop(3, at(5)), errBusy)
	f.want(busy)
}

func TestPageIsRefused(t *testing.T) {
	f := newFile(t)
	for want, page := range map[string]*Page{
		`partition 3 of group "bank": here is group "shop"`: {Group: "bank", Partition: 3, Last: true},
		"partition 8 of group":                              {Group: "shop", Partition: partitions, Last: true},
		"partition -1 of":                                   {Group: "shop", Partition: -1, Last: true},
		"which is of partition 4": {
			Group: "shop", Partition: 3, Since: at(2), Items: []Item{{names(4, 1)[0], []byte("1")}}, Last: true, Total: 1,
		},
	} {
		if err := f.Take(page); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f.want(map[string]string{})
}

func TestPagesAreBounded(t *testing.T) {
	f := newFile(t)
	many := values(3, maxPageItems+1)
	f.put(many)
	page, last, err := f.page(3, at(5), nil)
	f.must(err)
	if len(page.Items) != maxPageItems || page.Last {
		t.Errorf("a page of %d items, last: %v", len(page.Items), page.Last)
	}
	page, _, err = f.page(3, at(5), last)
	f.must(err)
	if len(page.Items) != 1 || !page.Last {
		t.Errorf("then one of %d items, last: %v", len(page.Items), page.Last)
	}

	large := make(map[string]string)
	for _, name := range names(4, 3) {
		large[name] = strings.Repeat("x", maxPageBytes)
	}
	f.put(large)
	if page, _, err = f.page(4, at(5), nil); err != nil || len(page.Items) != 1 || page.Last {
		t.Errorf("a page of %d items, last: %v, %v", len(page.Items), page.Last, err)
	}
}
