// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assent-tx/assent/participant"
)

// The SQLSTATEs that mean something to the protocol. (PostgreSQL's manual, appendix A.)
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	undefinedObject      = "42704" // of a prepared transaction: there is none of that name
	adminShutdown        = "57P01" // the last word on a connection that the server closes
	crashShutdown        = "57P02" // the same
)

// failure is an error of what the Store does itself, with what the database advises.
type failure struct {
	doing string
	err   error
}

func (f *failure) Error() string {
	text := "postgres: " + f.doing + ": " + f.err.Error()
	if pg := (*pgconn.PgError)(nil); errors.As(f.err, &pg) && pg.Hint != "" {
		text += " (" + pg.Hint + ")"
	}
	return text
}

func (f *failure) Unwrap() error { return f.err }

// sqlState is the SQLSTATE of an error of the database, "" for another error.
func sqlState(err error) string {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// again tells whether the branch may be executed once more from the beginning and then succeed: the database could not serialize it
// with others.
func again(err error) bool {
	state := sqlState(err)
	return state == serializationFailure || state == deadlockDetected
}

// cut tells whether a connection broke, or was found to be broken: another one may do.
func cut(err error) bool {
	switch sqlState(err) {
	case "":
		return !errors.As(err, new(*pgconn.ConnectError))
	case adminShutdown, crashShutdown:
		return true
	default:
		return false
	}
}

// judge makes of an error of Prepare what the SDK understands: a refusal, which a repetition would not change; a conflict with another
// transaction; or what may be over when the branch is tried again.
func judge(err error) error {
	if err == nil || holdsNothing(err) {
		return err
	}
	switch state := sqlState(err); {
	case state == "" || passes(state):
		return err
	case state == lockNotAvailable:
		return participant.Conflict(err)
	default:
		return participant.Refuse(err)
	}
}

// holdsNothing: such an answer may be given only when nothing of the branch is prepared.
func holdsNothing(err error) bool {
	return errors.Is(err, participant.ErrRefused) || errors.Is(err, participant.ErrConflict)
}

// passes tells whether an error is of the database's condition and not of the statement: it may go away by itself, or when an
// operator does something. All others are the branch's, also those that applications define with RAISE.
func passes(state string) bool {
	if state == lockNotAvailable {
		return false
	}
	switch state[:2] {
	case "08", // connection exception
		"25", // invalid transaction state: of a standby, for one, which is read-only
		"28", // invalid authorization
		"3D", // the database is not there
		"40", // transaction rollback; 40001 and 40P01 were tried again
		"53", // insufficient resources: disk full, too many connections, no place for a prepared transaction
		"55", // object not in prerequisite state: prepared transactions are disabled, for one
		"57", // operator intervention: shutdown, cancelled, starting up
		"58", // system error: I/O
		"72", // snapshot too old
		"F0", // configuration file
		"XX": // internal error, corruption
		return true
	default:
		return false
	}
}
