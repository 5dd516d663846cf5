// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// Config says what a coordinator leads and what it keeps. The zero Config is a coordinator of one shard.
type Config struct {
	// Prefix is the first token (or tokens, joined by dots) of every subject; default "assent".
	Prefix string
	// Shards is how many logs there are, 1 to 256; default 1. All coordinators, clients and participants of a cluster must
	// agree: it is fixed when the first coordinator creates the streams.
	Shards int
	// Replicas is how many servers hold each log, 1, 3 or 5; default 1.
	Replicas int
	// History is how long finished transactions stay in the log for `tx show` and `tx list --history`; default 1 h.
	History time.Duration
	// HistoryBytes bounds the same in bytes a shard; default 1 GiB, and at most half of MaxBytes. What a restart needs is kept
	// whatever the bound.
	HistoryBytes int64
	// MaxBytes is the size of a shard's log at which new transactions are refused; 0 means that only the disk bounds
	// it. A tenth is held back for the votes and outcomes of what is open.
	MaxBytes int64
	// MaxOpen is how many transactions may be open in a shard, 1 to 65,536 (the default); beyond it new ones are refused.
	MaxOpen int
	// Name identifies this coordinator in logs and reports, and its leases; default "coordinator-" and a random suffix. Each
	// coordinator needs one of its own. One that has the same again after a crash leads at once what it led, and need not wait
	// for the leases to run out. At most 64 bytes of UTF-8, as locks.Config.Owner.
	Name string
	// Lease is how long a shard may be without a leader, and a second more, when its leader dies; 1 s to 1 h, default 3 s. All
	// coordinators of a cluster should have the same.
	Lease time.Duration
	// DrainTimeout is how long Run waits, after its context ended, for another coordinator to take over, or for open transactions to
	// be decided when there is no other one; default 5 s. What it writes then has 5 s more.
	DrainTimeout time.Duration
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
	// Registerer receives the metrics; nil keeps them to the coordinator.
	Registerer prometheus.Registerer
}

// historyBytes is HistoryBytes, but never so much of a bounded log that there is no room for what is new.
func (cfg *Config) historyBytes() int64 {
	if cfg.MaxBytes == 0 {
		return cfg.HistoryBytes
	}
	return min(cfg.HistoryBytes, cfg.MaxBytes/2)
}

// maxShards bounds the shards: each is a stream and a leader.
const maxShards = 256

const defaultLease = 3 * time.Second

// maxName bounds a name, in bytes: it is the owner of the leases.
const maxName = 64

// maxOpen is the protocol's limit of open transactions in a shard.
const maxOpen = 65_536

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return cfg, fmt.Errorf("coordinator: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	}
	orDefault(&cfg.Shards, 1)
	if cfg.Shards < 1 || cfg.Shards > maxShards {
		return cfg, fmt.Errorf("coordinator: Shards %d: want 1 to %d", cfg.Shards, maxShards)
	}
	orDefault(&cfg.Replicas, 1)
	if cfg.Replicas != 1 && cfg.Replicas != 3 && cfg.Replicas != 5 {
		return cfg, fmt.Errorf("coordinator: Replicas %d: want 1, 3 or 5", cfg.Replicas)
	}
	orDefault(&cfg.History, time.Hour)
	orDefault(&cfg.HistoryBytes, 1<<30)
	if cfg.History < 0 || cfg.HistoryBytes < 0 || cfg.MaxBytes < 0 {
		return cfg, fmt.Errorf("coordinator: History, HistoryBytes and MaxBytes cannot be negative")
	}
	orDefault(&cfg.MaxOpen, maxOpen)
	if cfg.MaxOpen < 1 || cfg.MaxOpen > maxOpen {
		return cfg, fmt.Errorf("coordinator: MaxOpen %d: want 1 to %d", cfg.MaxOpen, maxOpen)
	}
	orDefault(&cfg.DrainTimeout, 5*time.Second)
	orDefault(&cfg.Lease, defaultLease)
	if cfg.Lease < time.Second || cfg.Lease > time.Hour {
		return cfg, fmt.Errorf("coordinator: Lease %v: want 1s to 1h", cfg.Lease)
	}
	if cfg.Name == "" {
		cfg.Name = "coordinator-" + messages.NewID().String()[24:]
	}
	if len(cfg.Name) > maxName || !utf8.ValidString(cfg.Name) {
		return cfg, fmt.Errorf("coordinator: Name %.80q has %d bytes: want at most %d of UTF-8", cfg.Name, len(cfg.Name), maxName)
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	return cfg, nil
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
