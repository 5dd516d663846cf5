// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// commits counts the commits of a file, each of which syncs the disk.
func (f *File) commits(t *testing.T) (id int) {
	t.Helper()
	err := f.View(func(tx *bbolt.Tx) error {
		id = tx.ID()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// gathered waits until so many changes wait for a commit.
func (f *File) gathered(want int) {
	for {
		f.mu.Lock()
		got := len(f.waiting)
		f.mu.Unlock()
		if got >= want {
			return
		}
		runtime.Gosched()
	}
}

// While a commit is under way changes gather, and then share one; of these, one that fails before it writes fails alone.
func TestJoin(t *testing.T) {
	f := open(t).file
	before := f.commits(t)
	refused := errors.New("refused")
	begun, end := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		err := f.Update(func(w *Writer) error {
			close(begun)
			<-end
			return notes.Put(w, []byte("first"), "")
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	const many = 5
	for i := range many {
		running.Go(func() {
			err := f.Join(func(w *Writer) error {
				if i == 0 {
					return refused
				}
				return notes.Put(w, fmt.Append(nil, i), "")
			})
			if errors.Is(err, refused) != (i == 0) || err != nil && i > 0 {
				t.Errorf("change %d: %v", i, err)
			}
		})
	}
	f.gathered(many)
	close(end)
	running.Wait()
	if got := f.commits(t) - before; got != 2 {
		t.Errorf("%d commits, want 2", got)
	}
	f.wantNotes(t, many)
}

// A change that fails in the middle leaves nothing behind, neither of itself nor of those that share its commit.
func TestFailInTheMiddle(t *testing.T) {
	f := open(t).file
	broken := errors.New("broken")
	err := f.Update(func(w *Writer) error {
		if err := notes.Put(w, []byte("half"), ""); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	f.wantNotes(t, 0)
	before := f.commits(t)
	if err := f.Update(func(*Writer) error { return nil }); err != nil {
		t.Error(err)
	}
	if got := f.commits(t) - before; got != 0 {
		t.Errorf("%d commits of nothing", got)
	}
}

func (f *File) wantNotes(t *testing.T, want int) {
	t.Helper()
	err := f.View(func(tx *bbolt.Tx) error {
		if got := notes.Len(tx); got != want {
			t.Errorf("%d notes, want %d", got, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A change that can join does not wait unless commits have met in the last second.
func TestJoinWaitsInABusyFile(t *testing.T) {
	f := open(t).file
	f.patience = time.Hour
	put := func(name string) error {
		return f.Join(func(w *Writer) error { return notes.Put(w, []byte(name), "") })
	}
	if err := put("idle"); err != nil { // or it takes an hour
		t.Fatal(err)
	}
	begun, end := make(chan struct{}), make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Update(func(*Writer) error { close(begun); <-end; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-begun
	running.Go(func() {
		if err := put("meets one"); err != nil {
			t.Error(err)
		}
	})
	for f.met.Load() == 0 {
		runtime.Gosched()
	}
	close(end)
	running.Wait()
	f.opened = f.opened.Add(-time.Second) // it was opened, and they met, a second earlier
	if err := put("idle again"); err != nil {
		t.Fatal(err)
	}
	f.wantNotes(t, 3)
}
