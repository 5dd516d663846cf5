// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/assent-tx/assent/participant"
)

// verdict is what an error means for who asked.
type verdict int

const (
	// failed: it is not known whether trying again helps; the SDK asks again.
	failed verdict = iota
	// inTheWay: another transaction is, or was.
	inTheWay
	// wrong: the statement or its values are; trying again does not help.
	wrong
	// decided: the application has said what it means.
	decided
)

// judge says what an error means.
func (s *Store) judge(err error) verdict {
	var held *heldError
	switch {
	case errors.Is(err, participant.ErrRefused), errors.Is(err, participant.ErrConflict), errors.Is(err, participant.ErrHeuristic):
		return decided
	case errors.Is(err, errRaced), errors.As(err, &held):
		return inTheWay
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failed
	}
	code, state := s.code(err)
	switch s.cfg.Dialect {
	case MySQL:
		return judgeMySQL(code, state)
	case Postgres:
		return judgePostgres(code)
	case SQLite:
		return judgeSQLite(code)
	}
	return failed
}

// code finds the database's code in an error, and, of MySQL's, the SQLSTATE; "" if there is none.
func (s *Store) code(err error) (code, state string) {
	if s.cfg.Code != nil {
		if code := s.cfg.Code(err); code != "" {
			return code, ""
		}
	}
	if s.cfg.Dialect == MySQL {
		return mysqlCode(err)
	}
	var sqlState interface{ SQLState() string } // pgx, lib/pq
	var number interface{ Code() int }          // modernc.org/sqlite
	switch {
	case s.cfg.Dialect == Postgres && errors.As(err, &sqlState):
		return sqlState.SQLState(), ""
	case s.cfg.Dialect == SQLite && errors.As(err, &number):
		return strconv.Itoa(number.Code()), ""
	}
	return "", ""
}

// mysqlText is how an error of go-sql-driver/mysql begins, which has its code in fields, and so for its own package alone.
var mysqlText = regexp.MustCompile(`^Error (\d{4,5})(?: \(([0-9A-Z]{5})\))?: `)

// mysqlCode looks for such an error among those that err wraps.
func mysqlCode(err error) (code, state string) {
	if err == nil {
		return "", ""
	}
	switch e := err.(type) { //nolint:errorlint // this walks the chain itself
	case interface{ Unwrap() error }:
		if code, state = mysqlCode(e.Unwrap()); code != "" {
			return code, state
		}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if code, state = mysqlCode(err); code != "" {
				return code, state
			}
		}
	}
	if parts := mysqlText.FindStringSubmatch(err.Error()); parts != nil {
		return parts[1], parts[2]
	}
	return "", ""
}

// judgeMySQL goes by the number where the SQLSTATE says something else or nothing.
func judgeMySQL(code, state string) verdict {
	switch code {
	case "1020", "1205", "1213": // the record has changed (MariaDB's snapshots), lock wait timeout, deadlock
		return inTheWay
	case "1044", "1045", "1142", "1143", "1226", "1227", "1370": // access denied, too many resources: nothing of the branch's
		return failed
	case "1364", "1366", "3819": // no default, a character that does not fit, a check: their state says nothing
		return wrong
	}
	return judgeState(state)
}

func judgePostgres(state string) verdict {
	switch state {
	case "40001", "40P01", "55P03": // serialization failure, deadlock, lock not available
		return inTheWay
	case "42501": // insufficient privilege
		return failed
	case "P0001": // RAISE EXCEPTION
		return wrong
	}
	return judgeState(state)
}

// judgeState goes by the class of an SQLSTATE: data, constraint, syntax or an unknown name, CHECK OPTION, SIGNAL.
func judgeState(state string) verdict {
	if len(state) == 5 && slices.Contains([]string{"22", "23", "42", "44", "45"}, state[:2]) {
		return wrong
	}
	return failed
}

func judgeSQLite(code string) verdict {
	n, err := strconv.Atoi(code)
	if err != nil {
		return failed
	}
	switch n & 0xff { // the rest is the extended code's
	case 5, 6: // BUSY, LOCKED
		return inTheWay
	case 1, 18, 19, 20, 25: // ERROR, TOOBIG, CONSTRAINT, MISMATCH, RANGE
		return wrong
	}
	return failed
}

// told is an error with the database's code in its text.
func (s *Store) told(err error) error {
	if code, _ := s.code(err); code != "" && !strings.Contains(err.Error(), code) {
		return fmt.Errorf("%w (%s)", err, code)
	}
	return err
}
