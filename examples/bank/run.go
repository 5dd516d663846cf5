// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
	"github.com/assent-tx/assent/router/ring"
)

// Config says which bank to run.
type Config struct {
	// Name is the participant's, such as "bank-a".
	Name string
	// File is where its accounts are. It is made if it does not exist.
	File string
	// Group makes the bank a node of a group, of that name, which share the group's accounts; "" is a bank with accounts of its
	// own.
	Group string
	// Partitions is the group's number of partitions, which never changes; default 4096.
	Partitions int
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
	if cfg.Group != "" {
		err = runNode(ctx, nc, cfg, store)
	} else {
		err = runAlone(ctx, nc, cfg, store)
	}
	return errors.Join(err, store.Close())
}

func runAlone(ctx context.Context, nc *nats.Conn, cfg Config, store *Store) error {
	p, err := participant.New(nc, participant.Config{Name: cfg.Name, Batch: store, Prefix: cfg.Prefix, Log: cfg.Log})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// runNode runs a bank that is a node of a group, and a participant of the same name: transactions find it by the accounts that
// it has.
func runNode(ctx context.Context, nc *nats.Conn, cfg Config, store *Store) error {
	cfg.setDefaults()
	hooks := &handover.Hooks{Holdings: store.Share(cfg.Group, cfg.Partitions), Conn: nc, Node: cfg.Name, Prefix: cfg.Prefix, Log: cfg.Log}
	node, err := router.NewNode(nc, router.NodeConfig{
		Config: router.Config{Prefix: cfg.Prefix, Log: cfg.Log}, Group: cfg.Group, Name: cfg.Name, Hooks: hooks,
		Settings: router.Settings{Partitions: cfg.Partitions, Kind: router.Data, Batch: batch},
	})
	if err != nil {
		return err
	}
	node.Serve(func(_ context.Context, account string, msg *nats.Msg) {
		_ = msg.Respond(store.answer(account, msg.Data)) // whoever hears nothing asks again
	})
	p, err := participant.New(nc, participant.Config{Name: cfg.Name, Batch: store, Ownership: node, Prefix: cfg.Prefix, Log: cfg.Log})
	if err != nil {
		return err
	}
	return hooks.Run(ctx, node, p)
}

// batch is how many partitions of a group move at once: few, because the accounts of those are not to be had meanwhile, and many,
// because each step of the ring costs all nodes something.
const batch = 64

func (cfg *Config) setDefaults() {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if cfg.Partitions == 0 {
		cfg.Partitions = ring.DefaultPartitions
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
}
