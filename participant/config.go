// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// Config says who the participant is and how it works. Name and one of Handler and Batch are required.
type Config struct {
	// Name is the participant's logical name, 1 to 64 of [A-Za-z0-9_-]. Instances that share a store share it.
	Name string
	// Handler or Batch does the work; exactly one is set.
	Handler Handler
	Batch   BatchHandler
	// Prefix is the first token (or tokens) of every subject; default "assent". It must be the coordinator's.
	Prefix string
	// Ownership is set when the participant is a node of a group and transactions find it by key: the *router.Node, which has
	// the participant's name. Branches are then prepared only for keys that the node owns. Handler or Batch must implement
	// InDoubt. A node has one participant at a time. nil: the participant is asked by its name alone.
	Ownership Ownership
	// Concurrency is how many Prepare calls, and beside them how many Commit and Rollback calls, run at once, 1 to 4096;
	// default 64. A Batch has one of each.
	Concurrency int
	// CallTimeout ends a call's context; default 10 s.
	CallTimeout time.Duration
	// Wound is how long a transaction waits for a key that a younger one holds, before the younger one has to give way; default
	// 100 ms, negative: never, so that deadlocks last until a transaction's timeout. An instance looks every 50 ms.
	// docs/isolation.md says what it costs to choose another.
	Wound time.Duration
	// NoWait: a transaction that wants a key which another one holds is voted no at once, as a conflict (assent.ErrConflict), in place of
	// waiting for it; Wound means nothing then. For clients that would rather hear of it than wait: whoever tries again may be overtaken for
	// ever, and commits take longer where keys are hot (docs/isolation.md). A Handler whose store locks keys itself (LocksKeys) still waits for
	// what another instance holds, as long as it does: set its own time-out (postgres.Config.LockTimeout) low as well.
	NoWait bool
	// DrainTimeout is how long Run waits, after its context ended, for calls that run and votes under way; default 10 s.
	DrainTimeout time.Duration
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

const maxConcurrency = 4096

func (cfg Config) withDefaults() (Config, error) {
	if !messages.ValidName(cfg.Name) {
		return cfg, fmt.Errorf("participant: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	}
	if (cfg.Handler == nil) == (cfg.Batch == nil) {
		return cfg, errors.New("participant: set exactly one of Handler and Batch")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return cfg, fmt.Errorf("participant: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 64
	}
	if cfg.Concurrency < 1 || cfg.Concurrency > maxConcurrency {
		return cfg, fmt.Errorf("participant: Concurrency %d: want 1 to %d", cfg.Concurrency, maxConcurrency)
	}
	if cfg.CallTimeout < 0 || cfg.DrainTimeout < 0 {
		return cfg, errors.New("participant: CallTimeout and DrainTimeout cannot be negative")
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 10 * time.Second
	}
	if cfg.Wound == 0 {
		cfg.Wound = 100 * time.Millisecond
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	return cfg, cfg.checkOwnership()
}

// store is the handler, for its optional interfaces.
func (cfg *Config) store() any {
	if cfg.Batch != nil {
		return cfg.Batch
	}
	return cfg.Handler
}
