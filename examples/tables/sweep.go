// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/messages"
)

// expiringBucket says which finished transactions may be forgotten when, earliest first: one write for all that a commit finished. A
// key is a second of Unix time and an id that no other key of that second has; the value is ids, one after the other.
const expiringBucket = "expiring"

const idSize = len(messages.ID{})

func expiring(w *Writer) *bbolt.Bucket { return w.Tx.Bucket([]byte(expiringBucket)) }

// expire notes, for each second, the ids of the transactions that may be forgotten then.
func expire(w *Writer, ended map[int64][]byte) error {
	for second, ids := range ended {
		key := append(binary.BigEndian.AppendUint64(nil, uint64(second)), ids[:idSize]...)
		w.writes++
		if err := expiring(w).Put(key, ids); err != nil {
			return err
		}
	}
	return nil
}

// sweep forgets finished transactions whose time has come, at most limit of them.
func sweep(w *Writer, now time.Time, limit int) error {
	for limit > 0 {
		key, ids := expiring(w).Cursor().First()
		if key == nil || int64(binary.BigEndian.Uint64(key)) > now.Unix() {
			return nil
		}
		key, ids = bytes.Clone(key), bytes.Clone(ids) // which are the file's, and it changes
		some := min(limit, len(ids)/idSize)
		limit -= some
		for id := range slices.Chunk(ids[:some*idSize], idSize) {
			if err := finished.Remove(w, id); err != nil {
				return err
			}
		}
		w.writes++
		if err := keepRest(expiring(w), key, ids[some*idSize:]); err != nil {
			return err
		}
	}
	return nil
}

// keepRest leaves of a list what is not forgotten yet.
func keepRest(bucket *bbolt.Bucket, key, ids []byte) error {
	if len(ids) == 0 {
		return bucket.Delete(key)
	}
	return bucket.Put(key, ids)
}
