// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/participant"
)

// Config says which store to run.
type Config struct {
	// Name is the participant's, and File where its lists and accounts are.
	Name, File string
	// Opening is the balance of accounts that nobody has used yet.
	Opening int64
	// Prefix is the cluster's subject prefix; default "assent".
	Prefix string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Run opens a store and lets it take part in transactions until ctx ends.
func Run(ctx context.Context, nc *nats.Conn, cfg Config) error {
	s, err := Open(cfg.File, cfg.Opening, nc.Publish)
	if err != nil {
		return err
	}
	p, err := participant.New(nc, participant.Config{Name: cfg.Name, Batch: s, Prefix: cfg.Prefix, Log: cfg.Log})
	if err == nil {
		err = p.Run(ctx)
	}
	return errors.Join(err, s.Close())
}
