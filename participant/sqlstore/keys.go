// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// heldError says that a key is held by another transaction, which lets go of it with its outcome.
type heldError struct {
	key participant.Key
	// holder is the other transaction, "" if they are several that share it.
	holder string
}

func (e *heldError) Error() string {
	if e.holder == "" {
		return fmt.Sprintf("key %.80q is held by others in shared mode", e.key.Name)
	}
	return fmt.Sprintf("key %.80q is held by transaction %s", e.key.Name, e.holder)
}

// byMode are the names of the exclusive and of the shared keys, each in order: all who lock rows lock them in this order.
func byMode(keys []participant.Key) (exclusive, shared [][]byte) {
	for _, key := range keys {
		if key.Shared {
			shared = append(shared, []byte(key.Name))
		} else {
			exclusive = append(exclusive, []byte(key.Name))
		}
	}
	return exclusive, shared
}

// takeKeys holds the branch's keys, or says that one of them is held by another. A row that another local transaction has just
// written is waited for.
func (s *Store) takeKeys(ctx context.Context, tx *sql.Tx, id messages.ID, keys []participant.Key) error {
	exclusive, shared := byMode(keys)
	if err := s.takeMode(ctx, tx, id.String(), 0, exclusive); err != nil {
		return err
	}
	return s.takeMode(ctx, tx, "", 1, shared)
}

// maxNames is how many keys one statement takes: three arguments each stay below every database's limit.
const maxNames = 256

// takeMode takes keys in one mode: rows with a holder, or rows with one more who share.
func (s *Store) takeMode(ctx context.Context, tx *sql.Tx, holder string, shared int, names [][]byte) error {
	for len(names) > 0 {
		now := names[:min(maxNames, len(names))]
		names = names[len(now):]
		args := make([]any, 0, 4*len(now))
		for _, name := range now {
			args = append(args, s.cfg.Name, name, holder, shared)
		}
		result, err := tx.ExecContext(ctx, s.say.take(shared == 1, len(now)), args...)
		if err != nil {
			return err
		}
		taken, err := result.RowsAffected()
		if err != nil {
			return err
		}
		if s.cfg.Dialect != MySQL && taken == int64(len(now)) { // MySQL's count depends on a setting of the connection
			continue
		}
		if err := s.checkTaken(ctx, tx, holder, shared, now); err != nil {
			return err
		}
	}
	return nil
}

// checkTaken finds the key that is not ours.
func (s *Store) checkTaken(ctx context.Context, tx *sql.Tx, holder string, shared int, names [][]byte) (err error) {
	rows, err := tx.QueryContext(ctx, s.say.holders(len(names)), named(s.cfg.Name, names)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found := 0
	for rows.Next() {
		var (
			name []byte
			has  string
			n    int
		)
		if err := rows.Scan(&name, &has, &n); err != nil {
			return err
		}
		if has != holder || (shared == 0) != (n == 0) {
			return &heldError{participant.Key{Name: string(name), Shared: shared == 1}, has}
		}
		found++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if found != len(names) {
		return fmt.Errorf("sqlstore: %d of %d rows of assent_keys are gone that were just written", len(names)-found, len(names))
	}
	return nil
}

// releaseKeys gives up what takeKeys took. Rows that are not there any more keep no outcome from being applied.
func (s *Store) releaseKeys(ctx context.Context, tx *sql.Tx, id messages.ID, keys []participant.Key) error {
	exclusive, shared := byMode(keys)
	dropped, err := s.eachName(ctx, tx, exclusive, s.say.drop, id.String())
	if err != nil {
		return err
	}
	unshared, err := s.eachName(ctx, tx, shared, s.say.unshare)
	if err != nil {
		return err
	}
	if released := dropped + unshared; released != int64(len(keys)) {
		s.cfg.Log.WithField("tx", id).WithField("participant", s.cfg.Name).Errorf("%d of the %d keys of the branch were not held any more: "+
			"somebody changed table assent_keys; other transactions may have come between", int64(len(keys))-released, len(keys))
	}
	_, err = s.eachName(ctx, tx, shared, s.say.dropUnshared)
	return err
}

// eachName runs a statement for keys, and counts the rows; args come before their names.
func (s *Store) eachName(ctx context.Context, tx *sql.Tx, names [][]byte, statement func(n int) string, args ...any) (count int64, err error) {
	for len(names) > 0 {
		now := names[:min(maxNames, len(names))]
		names = names[len(now):]
		result, err := tx.ExecContext(ctx, statement(len(now)), append(args[:len(args):len(args)], named(s.cfg.Name, now)...)...)
		if err != nil {
			return count, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return count, err
		}
		count += n
	}
	return count, nil
}

// named are a participant's name and its keys as arguments.
func named(name string, keys [][]byte) []any {
	args := append(make([]any, 0, 1+len(keys)), name)
	for _, key := range keys {
		args = append(args, key)
	}
	return args
}

// take puts n keys' rows: participant, name, holder, shared for each. Who meets a row that another holds leaves it as it is.
func (s *statements) take(shared bool, n int) string {
	text := `INSERT INTO assent_keys AS k (participant, name, holder, shared) VALUES ` + list(`(?, ?, ?, ?)`, n)
	switch {
	case s.dialect == MySQL && shared:
		text = mysqlTake(n) + `shared = shared + IF(holder = '', 1, 0)`
	case s.dialect == MySQL:
		text = mysqlTake(n) + `holder = IF(holder = '' AND shared = 0, VALUES(holder), holder)`
	case shared:
		text += ` ON CONFLICT (participant, name) DO UPDATE SET shared = k.shared + 1 WHERE k.holder = ''`
	default:
		text += ` ON CONFLICT (participant, name) DO UPDATE SET holder = excluded.holder WHERE k.holder = '' AND k.shared = 0`
	}
	return numbered(s.dialect, text)
}

func mysqlTake(n int) string {
	return `INSERT INTO assent_keys (participant, name, holder, shared) VALUES ` + list(`(?, ?, ?, ?)`, n) + ` ON DUPLICATE KEY UPDATE `
}

// holders reads n keys' rows: participant, names. It gives name, holder and shared, and what is, not what a snapshot has.
func (s *statements) holders(n int) string {
	text := `SELECT name, holder, shared FROM assent_keys WHERE participant = ? AND name IN (` + list(`?`, n) + `)`
	if s.dialect == MySQL {
		text += ` FOR UPDATE`
	}
	return numbered(s.dialect, text)
}

// drop deletes exclusive rows: holder, participant, names.
func (s *statements) drop(n int) string {
	return numbered(s.dialect, `DELETE FROM assent_keys WHERE holder = ? AND participant = ? AND name IN (`+list(`?`, n)+`)`)
}

// unshare counts one less who shares: participant, names.
func (s *statements) unshare(n int) string {
	return numbered(s.dialect, `UPDATE assent_keys SET shared = shared - 1 WHERE holder = '' AND shared > 0 AND participant = ? AND name IN (`+list(`?`, n)+`)`)
}

// dropUnshared deletes rows that nobody shares any more: participant, names.
func (s *statements) dropUnshared(n int) string {
	return numbered(s.dialect, `DELETE FROM assent_keys WHERE holder = '' AND shared = 0 AND participant = ? AND name IN (`+list(`?`, n)+`)`)
}
