// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"fmt"

	"github.com/assent-tx/assent/locks"
)

// Query runs a statement in the transaction that is to be fenced, and gives its rows, each of one column, as text.
type Query func(statement string, arguments ...any) (rows []string, err error)

// CheckBy is Check for drivers with an interface of their own, as pgx has: the caller runs the statements. The dialect must have
// RETURNING: Postgres or SQLite.
func (s SQL) CheckBy(query Query, key string, token locks.Token) error {
	text, err := s.statements()
	if err != nil {
		return err
	}
	if s.Dialect == MySQL {
		return fmt.Errorf("fence: CheckBy with SQL.Dialect MySQL: %w", ErrInvalid)
	}
	if err := checkSQLKey(key); err != nil {
		return err
	}
	if err := checkToken(key, token); err != nil {
		return err
	}
	rows, err := query(text.raise+` RETURNING token`, key, token.String())
	if err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	if len(rows) > 0 {
		return nil
	}
	if rows, err = query(text.read, key); err != nil {
		return fmt.Errorf("fence: %q: %w", key, err)
	}
	if len(rows) != 1 {
		return fmt.Errorf("fence: table %s has %d rows for %q, want 1", s.table(), len(rows), key)
	}
	newest, err := s.parse(rows[0], key)
	if err != nil {
		return err
	}
	return &StaleError{key, token, newest}
}

// CreateStatement is what Create runs.
func (s SQL) CreateStatement() (string, error) {
	text, err := s.statements()
	if err != nil {
		return "", err
	}
	return text.create, nil
}
