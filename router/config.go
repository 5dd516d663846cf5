// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"io"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// Config says where the rings are. Everything of this package takes it; the zero Config will do.
type Config struct {
	// Prefix is the first token (or tokens, joined by dots) of every subject; default "assent". The rings are in the bucket
	// <Prefix>-rings, the nodes' sessions in the bucket <Prefix>-nodes of package locks.
	Prefix string
	// Replicas is how many servers hold a bucket that has to be made: 1, 3 or 5; default 1.
	Replicas int
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return cfg, fmt.Errorf("router: %w: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", ErrInvalid, cfg.Prefix)
	}
	switch cfg.Replicas {
	case 0:
		cfg.Replicas = 1
	case 1, 3, 5:
	default:
		return cfg, fmt.Errorf("router: %w: Replicas %d: want 1, 3 or 5", ErrInvalid, cfg.Replicas)
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	return cfg, nil
}

func (cfg *Config) names() names { return names{cfg.Prefix} }

// checkName says why something cannot be the name of a group or a node.
func checkName(what, name string) error {
	if !messages.ValidName(name) {
		return fmt.Errorf("router: %w: the %s %.80q: want 1 to 64 of letters, digits, - and _", ErrInvalid, what, name)
	}
	return nil
}
