// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// File is a bbolt file whose changes share commits, each of which is one sync of the disk. It is safe for concurrent use.
type File struct {
	db       *bbolt.DB
	patience time.Duration // of Join

	committing sync.Mutex // held by whoever commits
	opened     time.Time
	met        atomic.Int64 // when commits met last, in ns after opened; 0 for never

	mu      sync.Mutex
	waiting []*change   // for the next commit
	timer   *time.Timer // of the first of them, if it joins
}

// change is one that is being put together.
type change struct {
	do   func(*Writer) error
	done chan error
}

// Writer is what changes a file.
type Writer struct {
	// Tx is bbolt's transaction, to read with.
	Tx     *bbolt.Tx
	writes int
	undo   []func()
}

// IfLost has something undone in memory if the change does not come into the file. What was done last is undone first, before any later
// change begins.
func (w *Writer) IfLost(undo func()) { w.undo = append(w.undo, undo) }

// Durable are the options of a file that syncs the disk with each commit. Only one process can have it open: another one fails
// after a second.
func Durable() *bbolt.Options {
	return &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true}
}

// Open opens a file, or makes one, with a bucket for each name.
func Open(path string, options *bbolt.Options, names ...string) (*File, error) {
	db, err := bbolt.Open(path, 0o600, options)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range names {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close())
	}
	return &File{db: db, patience: joinTime, opened: time.Now()}, nil
}

// Close closes the file. What was answered is in it.
func (f *File) Close() error { return f.db.Close() }

// View reads the file, as of one moment.
func (f *File) View(read func(tx *bbolt.Tx) error) error { return f.db.View(read) }

// Update makes a change in one commit, however much it holds, together with those that wait meanwhile. Nothing changed is nothing
// to sync. After an error nothing of the change is in the file.
//
// A change looks at everything before it writes anything: one that fails before it has written fails alone; if it has
// written, all that share its commit fail.
func (f *File) Update(do func(w *Writer) error) error {
	c := newChange(do)
	f.mu.Lock()
	f.waiting = append(f.waiting, c)
	f.mu.Unlock()
	f.commit()
	return <-c.done
}

const (
	// joinTime is how long a change waits for a commit that it can join. The commits of a busy file come faster.
	joinTime = 5 * time.Millisecond
	// gatherTime is how long a commit that had to wait for another one waits for what that one held up: batches that are prepared
	// and batches that are finished come by turns, and so they share a commit.
	gatherTime = 200 * time.Microsecond
)

// Join makes a change in the next commit, whoever's that is, or in one of its own with all that have come in five milliseconds; at once if
// the file is not busy. It is for changes that nobody waits for, and for small ones that come many at once, beside a load that has its own
// commits.
func (f *File) Join(do func(w *Writer) error) error {
	if !f.busy() {
		return f.Update(do)
	}
	c := newChange(do)
	f.mu.Lock()
	f.waiting = append(f.waiting, c)
	if len(f.waiting) == 1 {
		f.timer = time.AfterFunc(f.patience, f.commit)
	}
	f.mu.Unlock()
	return <-c.done
}

// busy tells whether commits have met in the last second.
func (f *File) busy() bool {
	met := f.met.Load()
	return met > 0 && time.Since(f.opened)-time.Duration(met) < time.Second
}

func newChange(do func(*Writer) error) *change { return &change{do, make(chan error, 1)} }

// commit makes the changes that wait, if nobody else has meanwhile, and tells each what came of it.
func (f *File) commit() {
	if !f.committing.TryLock() {
		f.met.Store(int64(time.Since(f.opened)))
		f.committing.Lock()
		<-time.After(gatherTime)
	}
	defer f.committing.Unlock()
	f.mu.Lock()
	changes := f.waiting
	f.waiting = nil
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	f.mu.Unlock()
	if len(changes) == 0 {
		return
	}
	errs := make([]error, len(changes))
	tx, err := f.db.Begin(true)
	if err == nil {
		err = apply(tx, changes, errs)
	}
	for i, c := range changes {
		if err != nil { // nothing of any of them is in the file
			errs[i] = err
		}
		c.done <- errs[i]
	}
}

// apply gives the error of all, and of each.
func apply(tx *bbolt.Tx, changes []*change, errs []error) (err error) {
	w := &Writer{Tx: tx}
	defer func() {
		if err != nil {
			for _, undo := range slices.Backward(w.undo) {
				undo()
			}
		}
	}()
	for i, c := range changes {
		before := w.writes
		if errs[i] = c.do(w); errs[i] != nil && w.writes > before {
			_ = tx.Rollback() // its only error is of a transaction that has ended
			return fmt.Errorf("a change of the same commit failed: %w", errs[i])
		}
	}
	if w.writes == 0 {
		_ = tx.Rollback() // as above
		return nil
	}
	return tx.Commit()
}
