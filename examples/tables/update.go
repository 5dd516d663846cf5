// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
)

// Durable are the options of a file that syncs the disk with each commit. Only one process can have it open: another one fails
// after a second.
func Durable() *bbolt.Options {
	return &bbolt.Options{Timeout: time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true}
}

// Open opens a file, or makes one, with a bucket for each name.
func Open(file string, options *bbolt.Options, names ...string) (*bbolt.DB, error) {
	db, err := bbolt.Open(file, 0o600, options)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", file, err)
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
		return nil, errors.Join(fmt.Errorf("%s: %w", file, err), db.Close())
	}
	db.MaxBatchDelay = together
	return db, nil
}

// Writer is a change of a file that is being put together.
type Writer struct {
	// Tx is bbolt's transaction, to read with.
	Tx      *bbolt.Tx
	changed bool
}

// Changed tells whether anything was written so far.
func (w *Writer) Changed() bool { return w.changed }

// Update changes a file in one commit, which is one sync of the disk however much it holds. Nothing changed is nothing to
// sync; after an error nothing is changed.
func Update(db *bbolt.DB, change func(w *Writer) error) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	w := &Writer{Tx: tx}
	if err := change(w); err != nil || !w.changed {
		_ = tx.Rollback() // its only error is of a transaction that has ended
		return err
	}
	return tx.Commit()
}

// together is how long UpdateTogether waits for others; a sync takes about as long.
const together = 2 * time.Millisecond

// UpdateTogether is Update for callers that come many at once, each with a small change of its own: those that come within
// two milliseconds share a commit. The change may be called again, alone, when another's has failed.
func UpdateTogether(db *bbolt.DB, change func(w *Writer) error) error {
	return db.Batch(func(tx *bbolt.Tx) error { return change(&Writer{Tx: tx}) })
}
