// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// endedBucket has the transactions that have ended, by when they may be forgotten, earliest first: one write for all that a commit ended. A
// key is a second of Unix time and an id that no other key of that second has; the value is ids, one after the other, each with a byte
// that is 1 if the transaction was committed and 0 if it was rolled back.
const endedBucket = "ended"

const (
	idSize    = len(messages.ID{})
	endedSize = idSize + 1
)

func appendEnded(list []byte, o participant.Outcome) []byte {
	how := byte(0)
	if o.Commit {
		how = 1
	}
	return append(append(list, o.Tx[:]...), how)
}

func inBucket(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte(endedBucket)) }

// putEnded notes, for each second, the transactions that may be forgotten then.
func putEnded(w *Writer, lists map[int64][]byte) error {
	for second, list := range lists {
		key := append(binary.BigEndian.AppendUint64(nil, uint64(second)), list[:idSize]...)
		w.writes++
		if err := inBucket(w.Tx).Put(key, list); err != nil {
			return err
		}
	}
	return nil
}

// endedIn reads them all, and whether each was committed.
func endedIn(tx *bbolt.Tx) (map[messages.ID]bool, error) {
	all := make(map[messages.ID]bool)
	err := inBucket(tx).ForEach(func(key, list []byte) error {
		return eachEnded(all, key, list)
	})
	return all, err
}

// eachEnded adds what a list has to others.
func eachEnded(all map[messages.ID]bool, key, list []byte) error {
	if len(key) != 8+idSize || len(list)%endedSize != 0 {
		return fmt.Errorf("the file is damaged: %s %x: %d bytes", endedBucket, key, len(list))
	}
	for entry := range slices.Chunk(list, endedSize) {
		all[messages.ID(entry[:idSize])] = entry[idSize] == 1
	}
	return nil
}

// sweepEnded forgets those whose time has come, at most limit of them, and gives them.
func sweepEnded(w *Writer, now time.Time, limit int) (map[messages.ID]bool, error) {
	forgotten := make(map[messages.ID]bool)
	for len(forgotten) < limit {
		key, list := inBucket(w.Tx).Cursor().First()
		if key == nil || int64(binary.BigEndian.Uint64(key)) > now.Unix() {
			break
		}
		key, list = bytes.Clone(key), bytes.Clone(list) // which are the file's, and it changes
		some := min(limit-len(forgotten), len(list)/endedSize) * endedSize
		if err := eachEnded(forgotten, key, list[:some]); err != nil {
			return forgotten, err
		}
		w.writes++
		if err := keepRest(inBucket(w.Tx), key, list[some:]); err != nil {
			return forgotten, err
		}
	}
	return forgotten, nil
}

// keepRest leaves of a list what is not forgotten yet.
func keepRest(bucket *bbolt.Bucket, key, list []byte) error {
	if len(list) == 0 {
		return bucket.Delete(key)
	}
	return bucket.Put(key, list)
}
