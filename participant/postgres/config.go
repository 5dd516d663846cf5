// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Config says whose branches a Store keeps and how they are executed. Name and Do are required.
type Config struct {
	// Name is the participant's name, as in participant.Config. Every instance of it uses the same database.
	Name string
	// Do executes a branch's operations in a transaction that it does not end: it returns nil when the transaction may be
	// prepared, and an error when not. An error of the database is judged by its SQLSTATE (see the package comment); of others,
	// participant.Refuse makes a refusal and participant.Conflict a conflict, and any other is one after which the branch is
	// tried again. Do is called again from the beginning for one branch when PostgreSQL could not serialize it, and when
	// the prepare is delivered again; it must have no effects beside those of tx. It must not use temporary tables, LISTEN,
	// NOTIFY, or cursors WITH HOLD: PostgreSQL prepares no transaction that did.
	Do func(ctx context.Context, tx pgx.Tx, b *participant.Branch) error
	// Isolation is the level at which Do runs; "" is the database's default (READ COMMITTED, unless somebody changed it).
	Isolation pgx.TxIsoLevel
	// LockTimeout is how long one statement waits for a lock before the branch is given up as a conflict, 1 ms to 1 h; default 2 s.
	// What is in doubt holds its locks, so they may be long. When the pool's connections have the same lock_timeout already
	// (lock_timeout=2000 in the DSN), it is not set again for each branch.
	LockTimeout time.Duration
	// Schema holds the tables assent_markers, assent_watermarks and assent_fences; 1 to 63 of
	// [a-z0-9_]; "" leaves it to the connection's search_path.
	Schema string
	// NoCreate: the tables are there, and Open does not make them. (It needs no right to create tables then.)
	NoCreate bool
	// Keep is how long the marker of a committed branch is kept, counted only while outcomes arrive; default 30 min, at
	// least 1 min. Who asks about an outcome later than that gets a false alarm (see the package comment).
	Keep time.Duration
	// Concurrency is that of participant.Config (default 64): so many prepared transactions there must be room for.
	Concurrency int
	// Log hears what an operator should know; nil discards it.
	Log *logrus.Logger
}

const (
	defaultLockTimeout = 2 * time.Second
	maxLockTimeout     = time.Hour
	defaultKeep        = 30 * time.Minute
	minKeep            = time.Minute
	defaultConcurrency = 64
)

// schemaName is what needs no quotes.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,62}$`)

func (cfg Config) withDefaults() (Config, error) {
	if !messages.ValidName(cfg.Name) {
		return cfg, fmt.Errorf("postgres: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	}
	if cfg.Do == nil {
		return cfg, errors.New("postgres: Do is missing")
	}
	switch cfg.Isolation {
	case "", pgx.ReadUncommitted, pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable:
	default:
		return cfg, fmt.Errorf("postgres: Isolation %.40q: want one of pgx's", cfg.Isolation)
	}
	if cfg.Schema != "" && !schemaName.MatchString(cfg.Schema) {
		return cfg, fmt.Errorf("postgres: Schema %.80q: want 1 to 63 of [a-z0-9_], not a digit first", cfg.Schema)
	}
	if cfg.LockTimeout == 0 {
		cfg.LockTimeout = defaultLockTimeout
	}
	if cfg.LockTimeout < time.Millisecond || cfg.LockTimeout > maxLockTimeout {
		return cfg, fmt.Errorf("postgres: LockTimeout %v: want 1ms to %v", cfg.LockTimeout, maxLockTimeout)
	}
	if cfg.Keep == 0 {
		cfg.Keep = defaultKeep
	}
	if cfg.Keep < minKeep {
		return cfg, fmt.Errorf("postgres: Keep %v: want at least %v", cfg.Keep, minKeep)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = defaultConcurrency
	}
	if cfg.Concurrency < 1 {
		return cfg, fmt.Errorf("postgres: Concurrency %d: want at least 1", cfg.Concurrency)
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	return cfg, nil
}
