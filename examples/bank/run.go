// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/participant"
)

// Config says which bank to run.
type Config struct {
	// Name is the participant's, such as "bank-a".
	Name string
	// File is where its accounts are. It is made if it does not exist.
	File string
	// Remember is how long finished transactions are remembered after their expiry; see Open. Default 0.
	Remember time.Duration
	// Prefix is the cluster's subject prefix; default "assent".
	Prefix string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Run opens a bank and lets it take part in transactions until ctx ends.
func Run(ctx context.Context, nc *nats.Conn, cfg Config) error {
	store, err := Open(cfg.File, cfg.Remember)
	if err != nil {
		return err
	}
	p, err := participant.New(nc, participant.Config{Name: cfg.Name, Batch: store, Prefix: cfg.Prefix, Log: cfg.Log})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	return errors.Join(p.Run(ctx), store.Close())
}
