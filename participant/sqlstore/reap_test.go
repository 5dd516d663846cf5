// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"testing"
	"time"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Finished branches are forgotten when their time has come, and not before; those in doubt never.
func TestReap(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		ended := func(expires time.Duration) messages.ID {
			b := take("widget", 1)
			b.Tx = minted(time.Now().Add(-48 * time.Hour))
			b.Expires = time.Now().Add(expires)
			s.wantYes(t, b)
			must(t, s.Commit(t.Context(), b.Tx))
			return b.Tx
		}
		s.cfg.Keep = time.Nanosecond
		old, expiring := ended(-time.Hour), ended(clocks/2-clocks)
		s.cfg.Keep = time.Hour
		kept := ended(-time.Hour)
		s.cfg.Keep = time.Nanosecond
		doubt := take("widget", 1)
		doubt.Tx, doubt.Expires = minted(time.Now().Add(-72*time.Hour)), time.Now().Add(-72*time.Hour)
		s.wantYes(t, doubt)
		s.cfg.Keep = time.Hour
		overtaken := messages.NewID()
		must(t, s.Rollback(t.Context(), overtaken))
		s.settled(t)
		must(t, s.SetWatermark(t.Context(), "log-0", "x", 1)) // which is when it is done
		for id, want := range map[messages.ID]string{old: "", expiring: confirmed, kept: confirmed, doubt.Tx: tried, overtaken: cancelled} {
			s.wantState(t, id, want)
		}
		// What was reaped, and what is older, is taken for repeated; what is younger is not.
		must(t, s.Commit(t.Context(), old))
		must(t, s.Commit(t.Context(), minted(time.Now().Add(-49*time.Hour))))
		wantError(t, s.Commit(t.Context(), minted(time.Now().Add(-47*time.Hour))), participant.ErrHeuristic, "does not know of it")
		must(t, s.Commit(t.Context(), doubt.Tx))
	})
}

// settled waits until a row that may be forgotten at once is due: the database counts milliseconds.
func (s *shop) settled(t *testing.T) {
	t.Helper()
	for due := 0; due == 0; {
		query := numbered(s.on.dialect, `SELECT COUNT(*) FROM assent_branches WHERE forget < ?`)
		must(t, s.db.QueryRowContext(t.Context(), query, time.Now().UnixMilli()).Scan(&due))
	}
}

// The reaper takes bounded bites, and an index to find them by.
func TestReapMany(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		const many = 2*reapRows + 5
		tx, err := s.db.BeginTx(t.Context(), nil)
		must(t, err)
		for range many {
			_, err := tx.ExecContext(t.Context(), `INSERT INTO assent_branches VALUES ('shop', '`+messages.NewID().String()+`', 'cancelled', '', '', 1, 2)`)
			must(t, err)
		}
		must(t, tx.Commit())
		// A row whose state and forget do not agree was written by hand, and is none of the reaper's.
		exec(t, s.db, `INSERT INTO assent_branches VALUES ('shop', '`+messages.NewID().String()+`', 'tried', '', '', 1, 2)`)
		if n, err := s.Reap(t.Context()); n != many || err != nil {
			t.Fatalf("reaped %d, %v; want %d", n, err, many)
		}
		if n := s.count(t, "assent_branches"); n != 1 {
			t.Errorf("%d rows are left", n)
		}
	})
}
