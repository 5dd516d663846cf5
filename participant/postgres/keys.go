// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tx/assent/participant"
)

// keyLock is an advisory lock that stands for keys: PostgreSQL's have numbers of 64 bits. Two keys that meet in one only wait for each other.
type keyLock struct {
	number int64
	shared bool
}

// keyLocks are the locks of a participant's keys (another one in the same database has its own), each once, in the order in which everybody takes them.
func keyLocks(name string, keys []participant.Key) []keyLock {
	locks := make([]keyLock, 0, len(keys))
	for _, key := range keys {
		sum := sha256.Sum256([]byte("assent:" + name + ":" + key.Name)) // of a text that an application's own advisory locks are not made of
		locks = append(locks, keyLock{int64(binary.BigEndian.Uint64(sum[:])), key.Shared})
	}
	slices.SortFunc(locks, func(a, b keyLock) int {
		if a.number == b.number && a.shared != b.shared {
			if b.shared {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.number, b.number)
	})
	return slices.CompactFunc(locks, func(a, b keyLock) bool { return a.number == b.number }) // the exclusive one stays
}

// The functions that take and give back an advisory lock.
const (
	untilTransactionEnds = "pg_advisory_xact_lock"
	untilGivenBack       = "pg_advisory_lock"
	giveBack             = "pg_advisory_unlock"
)

// forEach is the statement that calls one of them for each lock, in their order, which VALUES keeps.
func forEach(locks []keyLock, function string) string {
	text := strings.Builder{}
	text.WriteString("SELECT count(*) FROM (SELECT CASE WHEN shared THEN " + function + "_shared(number)::text ELSE " + function + "(number)::text END FROM (VALUES ")
	for i, lock := range locks {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "(%d::bigint, %t)", lock.number, lock.shared)
	}
	text.WriteString(") AS keys (number, shared) OFFSET 0) AS called")
	return text.String()
}

// lock takes the keys' locks until the transaction ends, which for a prepared one is its outcome.
//
// A transaction that sees the database as it was at its first statement, and waits for a lock in that, would see what was before it had the
// lock. So at these levels the session takes the locks before; the transaction takes them once more, and the session gives its own back.
func (s *Store) lock(ctx context.Context, tx *branchTx, keys []keyLock) error {
	if len(keys) == 0 {
		return nil
	}
	text := forEach(keys, untilTransactionEnds)
	if s.snapshots {
		before := "BEGIN ISOLATION LEVEL READ COMMITTED; " + s.sql.timeout + separator + forEach(keys, untilGivenBack) + "; COMMIT"
		if _, err := tx.conn.Exec(ctx, before); err != nil {
			tx.cut = tx.conn.IsClosed()
			_ = tx.conn.Close(context.WithoutCancel(ctx)) // it may hold some: they end with the session, however that ends
			return &failure{"locking keys", err}
		}
		text += separator + forEach(keys, giveBack)
	}
	if _, err := tx.Exec(ctx, text); err != nil {
		return &failure{"locking keys", err}
	}
	return nil
}
