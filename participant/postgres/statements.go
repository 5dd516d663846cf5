// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// statements are the texts of what a Store says. Those with an id in them are made by methods: several that go in one message
// cannot have parameters. What they are made of needs no quotes: names of [A-Za-z0-9_-], ids of [0-9a-f-], numbers.
type statements struct {
	prefix     string // of this participant's gids; no other participant's can begin so, since a name has no colon
	name       string
	markers    string
	watermarks string
	begin      string
	timeout    string // how long a statement of the transaction waits for a lock
	inDoubt    string
	remembers  string // its parameters are the participant, the transaction's id and its gid
	marker     string // its parameters are the transaction's id and the second at which it expires
	markerName string // of the prepared statement
	stats      string
	reap       string
}

// The tables' names, without the schema.
const (
	markersTable    = "assent_markers"
	watermarksTable = "assent_watermarks"
	fencesTable     = "assent_fences"
)

func (cfg *Config) table(name string) string {
	if cfg.Schema == "" {
		return name
	}
	return cfg.Schema + "." + name
}

func newStatements(cfg *Config) *statements {
	s := &statements{
		prefix: "assent:" + cfg.Name + ":", name: cfg.Name,
		markers: cfg.table(markersTable), watermarks: cfg.table(watermarksTable),
	}
	s.timeout = fmt.Sprintf("SET LOCAL lock_timeout = %d", cfg.LockTimeout.Milliseconds())
	s.begin = "BEGIN READ WRITE"
	if cfg.Isolation != "" {
		s.begin = "BEGIN ISOLATION LEVEL " + strings.ToUpper(string(cfg.Isolation)) + " READ WRITE"
	}
	s.begin += separator + s.timeout
	// Other databases of the server have prepared transactions of their own in this view. starts_with, because LIKE gives _ a meaning.
	const ours = `FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1)`
	s.inDoubt = `SELECT gid ` + ours + ` ORDER BY prepared`
	s.stats = `SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(prepared)), 0)::float8 ` + ours
	s.remembers = `SELECT EXISTS (SELECT FROM ` + s.markers + ` WHERE participant = $1 AND tx = $2::uuid) ` +
		`OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database() AND gid = $3)`
	// The marker tells whether the transaction had written (or locked) anything before: it has a number then. That is asked for before
	// the marker brings a number about, in the subquery, which OFFSET keeps from being merged.
	s.marker = `INSERT INTO ` + s.markers + ` (participant, tx, xid, expires, wrote) SELECT '` + cfg.Name + `', $1::uuid, pg_current_xact_id(), to_timestamp($2), b.wrote ` +
		`FROM (SELECT pg_current_xact_id_if_assigned() IS NOT NULL AS wrote OFFSET 0) AS b RETURNING wrote`
	s.markerName = "assent_marker:" + cfg.Name + ":" + cfg.Schema
	s.reap = `DELETE FROM ` + s.markers + ` WHERE ctid = ANY (ARRAY (SELECT ctid FROM ` + s.markers +
		` WHERE participant = $1 AND pg_visible_in_snapshot(xid, $2::pg_snapshot) AND expires < clock_timestamp() - interval '1 minute' LIMIT $3))`
	return s
}

const separator = "; "

// beginOnly leaves the timeout to the session.
func (s *statements) beginOnly() { s.begin, _, _ = strings.Cut(s.begin, separator) }

// gid is the name of a branch's prepared transaction, at most 7+64+1+36 bytes of the 199 that there may be.
func (s *statements) gid(tx messages.ID) string { return s.prefix + tx.String() }

func (s *statements) prepare(tx messages.ID) string {
	return "PREPARE TRANSACTION '" + s.gid(tx) + "'"
}

func (s *statements) commit(tx messages.ID) string { return "COMMIT PREPARED '" + s.gid(tx) + "'" }

func (s *statements) rollback(tx messages.ID) string { return "ROLLBACK PREPARED '" + s.gid(tx) + "'" }

// markerOf is the marker's statement with an id and a time in it, for where there can be no parameters.
func (s *statements) markerOf(b *participant.Branch) string {
	return strings.NewReplacer("$1", "'"+b.Tx.String()+"'", "$2", strconv.FormatInt(b.Expires.Unix(), 10)).Replace(s.marker)
}

// probe finds out what there is of a branch, and waits for whoever is preparing it: the marker is inserted, which waits for one
// that is there and not committed, and that is undone. Its second result has a row if the marker could be inserted; its third
// tells whether the marker is committed, and whether the branch is prepared.
func (s *statements) probe(tx messages.ID) string {
	prepared := `EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database() AND gid = '` + s.gid(tx) + `')`
	return `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; ` + s.timeout + `; ` +
		`INSERT INTO ` + s.markers + ` (participant, tx, xid, expires, wrote) ` +
		`SELECT '` + s.name + `', '` + tx.String() + `'::uuid, pg_current_xact_id(), to_timestamp(0), false WHERE NOT ` + prepared + ` ON CONFLICT DO NOTHING RETURNING 1; ` +
		`SELECT EXISTS (SELECT FROM ` + s.markers + ` WHERE participant = '` + s.name + `' AND tx = '` + tx.String() + `'), ` + prepared + `; ROLLBACK`
}
