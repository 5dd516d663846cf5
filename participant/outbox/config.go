// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// Config says which outbox it is. The zero Config is one of the name "outbox".
type Config struct {
	// Name is the participant's logical name, 1 to 64 of [A-Za-z0-9_-]; default "outbox".
	Name string
	// Prefix is the first token (or tokens) of every subject; default "assent". It must be the coordinator's.
	Prefix string
	// Replicas is how many copies of the journal's stream there are when it is made; default 1. In a cluster, give it 3.
	Replicas int
	// Lease makes Run stand by while another instance has the lease, 1 s to 1 h: that is how long it takes the next one to begin when
	// the one that works dies. 0: Run takes over at once, and the instance before it ends.
	Lease time.Duration
	// Instance is what this instance is called, for Lease; the same again after a restart: then it need not wait for the lease that it
	// had itself when it died. No two that run may have the same one. At most 64 bytes; "" is another one each time.
	Instance string
	// DrainTimeout is as participant.Config's; default 10 s.
	DrainTimeout time.Duration
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// DefaultName is the outbox's name when Config.Name is empty.
const DefaultName = "outbox"

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Name == "" {
		cfg.Name = DefaultName
	}
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	switch {
	case !messages.ValidName(cfg.Name):
		return cfg, fmt.Errorf("outbox: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	case !messages.ValidPrefix(cfg.Prefix):
		return cfg, fmt.Errorf("outbox: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	case cfg.Replicas < 0:
		return cfg, fmt.Errorf("outbox: Replicas %d: cannot be negative", cfg.Replicas)
	case cfg.Lease < 0 || cfg.DrainTimeout < 0:
		return cfg, errors.New("outbox: Lease and DrainTimeout cannot be negative")
	}
	return cfg, nil
}
