// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

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
