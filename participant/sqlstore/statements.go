// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"strconv"
	"strings"
)

// statements are what a dialect says. Their arguments are in the comments; $1 stands for every other placeholder, too.
type statements struct {
	dialect Dialect
	// begin takes the right to write, where it is one for the whole database; "" elsewhere.
	begin string
	// barrier puts the row in the state tried, unless there is one: [patience,] participant, tx, branch, changed. It waits for whoever
	// has an uncommitted one.
	barrier string
	// look reads the row and locks it: participant, tx. It gives state, branch, reason.
	look string
	// known counts the rows: participant, tx.
	known string
	// settle: state, reason, changed, forget, participant, tx.
	settle string
	// hold: participant, tx.
	hold string
	// refuse puts the row in the state cancelled, unless there is one: participant, tx, changed, forget.
	refuse string
	// through: participant.
	through string
	// reap notes how far the rows are reaped: participant, through. MySQL and the others alike count a row or two.
	reap string
	// due are the rows that may be deleted: participant, now, limit.
	due string
	// inDoubt: participant. It gives tx and branch.
	inDoubt string
	// stats: participant. It gives a number and changed.
	stats string
	// mark: participant, stream. It gives incarnation and sequence.
	mark string
	// setMark: participant, stream, incarnation, sequence. Of two instances' in one log the greater stays.
	setMark string
}

const (
	insertBranch = `assent_branches (participant, tx, state, branch, reason, changed, forget)`
	// forget is NULL while the state is tried or held, so it has all that is in doubt at one end of its index.
	open = `forget IS NULL AND state IN ('tried', 'held')`
	over = `forget IS NOT NULL AND state NOT IN ('tried', 'held')`
)

func newStatements(d Dialect) *statements {
	s := &statements{
		dialect: d,
		barrier: `INSERT INTO ` + insertBranch + ` VALUES (?, ?, 'tried', ?, '', ?, NULL) ON CONFLICT DO NOTHING`,
		look:    `SELECT state, branch, reason FROM assent_branches WHERE participant = ? AND tx = ? FOR UPDATE`,
		known:   `SELECT COUNT(*) FROM assent_branches WHERE participant = ? AND tx = ?`,
		settle: `UPDATE assent_branches SET state = ?, branch = '', reason = ?, changed = ?, forget = ?` +
			` WHERE participant = ? AND tx = ? AND ` + open,
		hold:    `UPDATE assent_branches SET state = 'held' WHERE participant = ? AND tx = ? AND ` + open,
		refuse:  `INSERT INTO ` + insertBranch + ` VALUES (?, ?, 'cancelled', '', '', ?, ?) ON CONFLICT DO NOTHING`,
		through: `SELECT through FROM assent_reaped WHERE participant = ?`,
		reap: `INSERT INTO assent_reaped AS r (participant, through) VALUES (?, ?)` +
			` ON CONFLICT (participant) DO UPDATE SET through = excluded.through WHERE r.through < excluded.through`,
		due:     `SELECT tx FROM assent_branches WHERE participant = ? AND forget < ? AND ` + over + ` ORDER BY forget LIMIT ?`,
		inDoubt: `SELECT tx, branch FROM assent_branches WHERE participant = ? AND ` + open,
		stats:   `SELECT COUNT(*), MIN(changed) FROM assent_branches WHERE participant = ? AND ` + open,
		mark:    `SELECT incarnation, sequence FROM assent_watermarks WHERE participant = ? AND stream = ?`,
		setMark: `INSERT INTO assent_watermarks AS w (participant, stream, incarnation, sequence) VALUES (?, ?, ?, ?)` +
			` ON CONFLICT (participant, stream) DO UPDATE SET incarnation = excluded.incarnation, sequence = excluded.sequence` +
			` WHERE w.incarnation <> excluded.incarnation OR w.sequence < excluded.sequence`,
	}
	switch d {
	case SQLite:
		s.look = strings.TrimSuffix(s.look, ` FOR UPDATE`) // who writes is alone
		s.begin = `DELETE FROM assent_reaped WHERE 1 = 0`  // as BEGIN IMMEDIATE, which a *sql.Tx cannot say
	case MySQL:
		// INSERT IGNORE ignores more than a row that is there, but nothing that can come up with these values.
		s.barrier = `INSERT IGNORE INTO ` + insertBranch + ` VALUES (?, ?, 'tried', ?, '', ?, NULL)`
		s.refuse = `INSERT IGNORE INTO ` + insertBranch + ` VALUES (?, ?, 'cancelled', '', '', ?, ?)`
		s.reap = `INSERT INTO assent_reaped (participant, through) VALUES (?, ?)` +
			` ON DUPLICATE KEY UPDATE through = GREATEST(through, VALUES(through))`
		s.setMark = `INSERT INTO assent_watermarks (participant, stream, incarnation, sequence) VALUES (?, ?, ?, ?)` +
			` ON DUPLICATE KEY UPDATE sequence = IF(incarnation <> VALUES(incarnation), VALUES(sequence), GREATEST(VALUES(sequence), sequence)),` +
			` incarnation = VALUES(incarnation)` // in this order
	case Postgres:
		// The setting holds until the transaction ends. The row comes from it, so that it is there before anything can wait.
		s.barrier = `WITH patience AS (SELECT set_config('lock_timeout', ?, true)) INSERT INTO ` + insertBranch +
			` SELECT ?, ?, 'tried', ?::bytea, '', ?::bigint, NULL FROM patience ON CONFLICT DO NOTHING`
		s.number(&s.barrier, &s.look, &s.known, &s.settle, &s.hold, &s.refuse, &s.through, &s.reap, &s.due, &s.inDoubt, &s.stats, &s.mark, &s.setMark)
	}
	return s
}

// number gives PostgreSQL its placeholders.
func (s *statements) number(texts ...*string) {
	for _, text := range texts {
		*text = numbered(s.dialect, *text)
	}
}

// numbered is a statement with the dialect's placeholders in place of question marks, of which it has no others.
func numbered(d Dialect, text string) string {
	if d != Postgres {
		return text
	}
	parts := strings.Split(text, "?")
	var b strings.Builder
	b.WriteString(parts[0])
	for i, part := range parts[1:] {
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(i + 1))
		b.WriteString(part)
	}
	return b.String()
}

// list is n placeholders, or groups of them, with commas between.
func list(group string, n int) string { return strings.TrimSuffix(strings.Repeat(group+", ", n), ", ") }
