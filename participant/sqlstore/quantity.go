// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/assent-tx/assent/participant"
)

// Each makes a Func that does something for each operation of a branch, in order, with the operation's payload as a T. A payload
// that is none is refused.
func Each[T any](do func(ctx context.Context, tx *sql.Tx, operation T) error) Func {
	return func(ctx context.Context, tx *sql.Tx, b *participant.Branch) error {
		for i := range b.Operations {
			var operation T
			if err := b.Decode(i, &operation); err != nil {
				return err
			}
			if err := do(ctx, tx, operation); err != nil {
				return err
			}
		}
		return nil
	}
}

// Quantity is a column with what is there of something, such as pieces in stock or cents in an account, which transactions take
// from and add to. Its methods are the parts of a Try, a Confirm and a Cancel. Each is one statement that finds its row
// by the id, which should be the primary key:
//
//	take 3    available 10 ──Try──▶ available 7, reserved 3 ──Confirm──▶ available 7, reserved 0
//	                                                        └─Cancel───▶ available 10, reserved 0
//	add 3     available 10 ──Try──▶ available 10, incoming 3 ──Confirm──▶ available 13, incoming 0
//	                                                         └─Cancel───▶ available 10, incoming 0
//
// So what was taken is nobody else's from Try on, what is added is nobody's before Confirm, and neither Confirm nor Cancel can fail
// for want of anything. Columns are whole numbers, not NULL. A branch may do several things to one row.
// A value is ready, and safe for concurrent use.
type Quantity struct {
	// Dialect is the database's.
	Dialect Dialect
	// Table is a name, or schema and name with a dot between. This and the columns are quoted, so they are as they were made,
	// upper or lower case.
	Table string
	// ID is the column by which a row is found.
	ID string
	// Available is the column of what is there and free.
	Available string
	// Reserved is the column of what was taken by transactions that are not over.
	Reserved string
	// Incoming is the column of what is added by transactions that are not over; "" if nothing is ever added.
	Incoming string
	// Max is the most that Available, Reserved and Incoming may be together after something was added; default MaxQuantity.
	Max int64
}

// MaxQuantity is the greatest amount, and what is there at the most by default: JSON in every language has it exactly.
const MaxQuantity = 1 << 53

// Try reserves an amount of what is there, or, if it is negative, promises to add so much. There is not enough, or no such row, or
// too much: that is refused with what is there.
func (q Quantity) Try(ctx context.Context, tx *sql.Tx, id any, amount int64) error {
	if err := q.check(amount); err != nil {
		return err
	}
	text, args := q.take(id, amount)
	if amount < 0 {
		text, args = q.add(id, -amount)
	}
	if changed, err := q.exec(ctx, tx, text, args...); err != nil || changed {
		return err
	}
	return q.refuse(ctx, tx, id, amount)
}

// Confirm makes what Try reserved final: it is gone, or, if the amount is negative, there.
func (q Quantity) Confirm(ctx context.Context, tx *sql.Tx, id any, amount int64) error {
	if amount < 0 {
		return q.move(ctx, tx, id, q.Incoming, q.Available, -amount)
	}
	return q.move(ctx, tx, id, q.Reserved, "", amount)
}

// Cancel gives back what Try reserved, or forgets what was promised.
func (q Quantity) Cancel(ctx context.Context, tx *sql.Tx, id any, amount int64) error {
	if amount < 0 {
		return q.move(ctx, tx, id, q.Incoming, "", -amount)
	}
	return q.move(ctx, tx, id, q.Reserved, q.Available, amount)
}

// check refuses amounts that make no sense, and says what is wrong with q.
func (q Quantity) check(amount int64) error {
	for _, name := range []string{q.Table, q.ID, q.Available, q.Reserved, cmp.Or(q.Incoming, "-")} {
		if name == "" {
			return errors.New("sqlstore: Quantity needs Table, ID, Available and Reserved")
		}
		if strings.ContainsAny(name, "?\x00") {
			return fmt.Errorf("sqlstore: Quantity's name %q: a question mark is taken for a placeholder", name)
		}
	}
	switch {
	case amount == 0:
		return participant.Refuse(errors.New("an amount of 0: want another"))
	case amount < -MaxQuantity || amount > MaxQuantity:
		return participant.Refuse(fmt.Errorf("an amount of %d: want at most %d", amount, int64(MaxQuantity)))
	case amount < 0 && q.Incoming == "":
		return participant.Refuse(fmt.Errorf("an amount of %d: nothing can be added here", amount))
	}
	return nil
}

func (q Quantity) take(id any, amount int64) (text string, args []any) {
	available, reserved := q.name(q.Available), q.name(q.Reserved)
	return `UPDATE ` + q.table() + ` SET ` + available + ` = ` + available + ` - ` + q.number() + `, ` + reserved + ` = ` + reserved + ` + ` + q.number() +
		` WHERE ` + q.name(q.ID) + ` = ? AND ` + available + ` >= ` + q.number(), []any{amount, amount, id, amount}
}

func (q Quantity) add(id any, amount int64) (text string, args []any) {
	incoming := q.name(q.Incoming)
	return `UPDATE ` + q.table() + ` SET ` + incoming + ` = ` + incoming + ` + ` + q.number() +
		` WHERE ` + q.name(q.ID) + ` = ? AND ` + q.sum() + ` <= ` + q.number(), []any{amount, id, q.max() - amount}
}

// sum is all that belongs to a row or is promised to it.
func (q Quantity) sum() string {
	return q.name(q.Available) + ` + ` + q.name(q.Reserved) + ` + ` + q.name(q.Incoming)
}

func (q Quantity) max() int64 {
	if q.Max == 0 {
		return MaxQuantity
	}
	return q.Max
}

// move takes an amount out of one column and puts it into another, or nowhere.
func (q Quantity) move(ctx context.Context, tx *sql.Tx, id any, from, to string, amount int64) error {
	set, args := q.name(from)+` = `+q.name(from)+` - `+q.number(), []any{amount}
	if to != "" {
		set, args = set+`, `+q.name(to)+` = `+q.name(to)+` + `+q.number(), append(args, amount)
	}
	changed, err := q.exec(ctx, tx, `UPDATE `+q.table()+` SET `+set+` WHERE `+q.name(q.ID)+` = ? AND `+q.name(from)+` >= `+q.number(), append(args, id, amount)...)
	if err == nil && !changed {
		err = fmt.Errorf("sqlstore: table %s: %v has less than %d in %s, which Try put there: somebody changed it past Assent; put it back, "+
			"and the outcome is applied", q.Table, id, amount, from)
	}
	return err
}

// exec tells whether a statement changed its row. Each sets a column to another value, so that all databases count alike.
func (q Quantity) exec(ctx context.Context, tx *sql.Tx, text string, args ...any) (changed bool, err error) {
	result, err := tx.ExecContext(ctx, numbered(q.Dialect, text), args...)
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	if err == nil && rows > 1 {
		err = participant.Refuse(fmt.Errorf("%d rows of table %s have one %s: it must be unique", rows, q.Table, q.ID))
	}
	return rows == 1, err
}

// refuse says why nothing was reserved.
func (q Quantity) refuse(ctx context.Context, tx *sql.Tx, id any, amount int64) error {
	var there int64
	what := q.name(q.Available)
	if amount < 0 {
		what = q.sum()
	}
	err := tx.QueryRowContext(ctx, numbered(q.Dialect, `SELECT `+what+` FROM `+q.table()+` WHERE `+q.name(q.ID)+` = ?`), id).Scan(&there)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return participant.Refuse(fmt.Errorf("%s: no %s %v", q.Table, q.ID, id))
	case err != nil:
		return err
	case amount < 0:
		return participant.Refuse(fmt.Errorf("%s %v: %d wanted in, room for %d", q.Table, id, -amount, max(0, q.max()-there)))
	}
	return participant.Refuse(fmt.Errorf("%s %v: %d wanted, %d %s", q.Table, id, amount, there, q.Available))
}

// number is the placeholder of an amount, which PostgreSQL would otherwise take to be as narrow as the column.
func (q Quantity) number() string {
	if q.Dialect == Postgres {
		return `CAST(? AS bigint)`
	}
	return `?`
}

// table is the table's name, quoted.
func (q Quantity) table() string {
	parts := strings.Split(q.Table, ".")
	for i := range parts {
		parts[i] = q.name(parts[i])
	}
	return strings.Join(parts, ".")
}

// name is a name, quoted. SQLite gets MySQL's quotes: what stands in double quotes and is no column, it takes for a text.
func (q Quantity) name(name string) string {
	quote := "`"
	if q.Dialect == Postgres {
		quote = `"`
	}
	return quote + strings.ReplaceAll(name, quote, quote+quote) + quote
}
