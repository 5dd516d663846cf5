// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assent-tx/assent/participant"
)

// Errors of the statements themselves are refusals that carry the database's code; the transaction's changes are undone.
func TestWrongStatements(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		check := `, CONSTRAINT small CHECK (n < 100)`
		exec(t, s.db, `CREATE TABLE strict_numbers (n BIGINT NOT NULL PRIMARY KEY, parent BIGINT`+check+`)`)
		exec(t, s.db, `INSERT INTO strict_numbers VALUES (1, NULL)`)
		for _, test := range []struct {
			name, statement string
			codes           map[*system]string
		}{
			{"unique", `INSERT INTO strict_numbers VALUES (1, NULL)`, map[*system]string{onSQLite: "1555", onMariaDB: "1062", onPostgres: "23505"}},
			{"not null", `INSERT INTO strict_numbers VALUES (NULL, NULL)`, map[*system]string{onSQLite: "1299", onMariaDB: "1048", onPostgres: "23502"}},
			{"check", `INSERT INTO strict_numbers VALUES (1000, NULL)`, map[*system]string{onSQLite: "275", onMariaDB: "4025", onPostgres: "23514"}},
			{"no table", `INSERT INTO nowhere VALUES (1)`, map[*system]string{onSQLite: "no such table", onMariaDB: "1146", onPostgres: "42P01"}},
			{"syntax", `INSERT OUTTO strict_numbers`, map[*system]string{onSQLite: "syntax error", onMariaDB: "1064", onPostgres: "42601"}},
		} {
			s.duringTry = func(ctx context.Context, tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, test.statement); err != nil {
					return fmt.Errorf("%s: %w", test.name, err)
				}
				return nil
			}
			b := take("widget", 3)
			_, err := s.Prepare(t.Context(), b)
			wantError(t, err, participant.ErrRefused, test.codes[on])
			s.wantStock(t, "widget", 10, 0, 0)
			s.wantState(t, b.Tx, "")
		}
	})
}

// What is not the branch's fault is asked again, and not refused.
func TestFailures(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		s.failTry = errors.New("no ticket from the other service")
		_, err := s.Prepare(t.Context(), take("widget", 3))
		wantError(t, err, s.failTry, "no ticket")
		wantFailure(t, err)
		s.failTry = nil
		ended, end := context.WithCancel(t.Context())
		end()
		_, err = s.Prepare(ended, take("widget", 3))
		wantFailure(t, err)
		wantFailure(t, s.Commit(ended, take("widget", 3).Tx))
		// Our own tables are gone: that is the operator's business, not the client's.
		exec(t, s.db, `DROP TABLE assent_branches`)
		_, err = s.Prepare(t.Context(), take("widget", 3))
		wantFailure(t, err)
		wantFailure(t, s.Commit(t.Context(), take("widget", 3).Tx))
		must(t, s.db.Close())
		_, err = s.Prepare(t.Context(), take("widget", 3))
		wantFailure(t, err)
		_, err = s.InDoubt(t.Context())
		wantFailure(t, err)
	})
}

// wantFailure wants an error after which the SDK asks again.
func wantFailure(t *testing.T, err error) {
	t.Helper()
	if err == nil || errors.Is(err, participant.ErrRefused) || errors.Is(err, participant.ErrConflict) || errors.Is(err, participant.ErrHeuristic) {
		t.Fatalf("got %v", err)
	}
}

// What the application says about an error is what counts.
func TestTheApplicationDecides(t *testing.T) {
	everywhere(t, func(t *testing.T, on *system) {
		s := openShop(t, on)
		for _, want := range []error{participant.ErrRefused, participant.ErrConflict} {
			s.failTry = fmt.Errorf("not on Sundays: %w", want)
			b := take("widget", 3)
			_, err := s.Prepare(t.Context(), b)
			wantError(t, err, want, "not on Sundays")
			s.wantState(t, b.Tx, "")
			s.wantStock(t, "widget", 10, 0, 0)
		}
	})
}

// The codes that decide, in the errors of the drivers.
func TestJudge(t *testing.T) {
	my := func(number uint16, state string) error {
		return &mysql.MySQLError{Number: number, SQLState: [5]byte([]byte(state)), Message: "oh"}
	}
	pg := func(state string) error { return &pgconn.PgError{Code: state, Message: "oh"} }
	lite := func(code int) error { return sqliteError(code) }
	for _, test := range []struct {
		on   Dialect
		err  error
		want verdict
	}{
		{MySQL, my(1213, "40001"), inTheWay},
		{MySQL, my(1205, "HY000"), inTheWay},
		{MySQL, my(1062, "23000"), wrong},
		{MySQL, my(1644, "45000"), wrong},                  // SIGNAL
		{MySQL, my(3819, "HY000"), wrong},                  // MySQL's CHECK
		{MySQL, my(1142, "42000"), failed},                 // no right
		{MySQL, my(1040, "08004"), failed},                 // too many connections
		{MySQL, my(1114, "HY000"), failed},                 // full
		{MySQL, my(1290, "HY000"), failed},                 // read only
		{MySQL, &mysql.MySQLError{Number: 1213}, inTheWay}, // without a state
		{MySQL, mysql.ErrInvalidConn, failed},
		{MySQL, fmt.Errorf("a: %w", errors.Join(errors.New("b"), fmt.Errorf("c: %w", my(1213, "40001")))), inTheWay},
		{Postgres, pg("40001"), inTheWay},
		{Postgres, pg("40P01"), inTheWay},
		{Postgres, pg("55P03"), inTheWay},
		{Postgres, pg("22003"), wrong},
		{Postgres, pg("P0001"), wrong},
		{Postgres, fmt.Errorf("a: %w", pg("23505")), wrong},
		{Postgres, pg("42501"), failed}, // no right
		{Postgres, pg("53100"), failed}, // full
		{Postgres, pg("57P01"), failed}, // shut down
		{Postgres, pg("25006"), failed}, // read only
		{SQLite, lite(5), inTheWay},
		{SQLite, lite(5 | 2<<8), inTheWay}, // BUSY_SNAPSHOT
		{SQLite, lite(6), inTheWay},
		{SQLite, lite(2067), wrong}, // unique
		{SQLite, lite(20), wrong},
		{SQLite, lite(13), failed},        // full
		{SQLite, lite(8), failed},         // read only
		{SQLite, lite(10 | 4<<8), failed}, // I/O
		{SQLite, errors.New("database is locked"), failed},
		{SQLite, fmt.Errorf("%w: %w", context.DeadlineExceeded, lite(9)), failed},
	} {
		s := &Store{cfg: Config{Dialect: test.on}}
		if got := s.judge(test.err); got != test.want {
			t.Errorf("%v: got %v, want %v", test.err, got, test.want)
		}
	}
	s := &Store{cfg: Config{Dialect: SQLite, Code: func(err error) string {
		if err.Error() == "database is locked" {
			return "5"
		}
		return ""
	}}}
	if err := errors.New("database is locked"); s.judge(err) != inTheWay || s.told(err).Error() != "database is locked (5)" {
		t.Errorf("Config.Code is not asked: %v", s.told(err))
	}
	if got := s.judge(lite(13)); got != failed {
		t.Errorf("got %v", got)
	}
}

// sqliteError looks like modernc.org/sqlite's.
type sqliteError int

func (e sqliteError) Error() string { return fmt.Sprintf("oh (%d)", int(e)) }
func (e sqliteError) Code() int     { return int(e) }
