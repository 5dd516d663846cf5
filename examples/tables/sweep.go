// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/assent-tx/assent/messages"
)

// sweep forgets finished transactions whose time has come, at most limit of them.
func sweep(w *Writer, now time.Time, limit int) error {
	var due [][]byte
	cursor := w.Tx.Bucket([]byte(sweeping.Name)).Cursor()
	for key, _ := cursor.First(); key != nil && len(due) < limit && sweepTime(key).Before(now); key, _ = cursor.Next() {
		due = append(due, bytes.Clone(key))
	}
	for _, key := range due {
		if err := finished.Remove(w, key[8:]); err != nil {
			return err
		}
		if err := sweeping.Remove(w, key); err != nil {
			return err
		}
	}
	return nil
}

// sweepKey orders transactions by the time at which they may be forgotten.
func sweepKey(at time.Time, tx messages.ID) []byte {
	return append(binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())), tx[:]...)
}

func sweepTime(key []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(key)))
}
