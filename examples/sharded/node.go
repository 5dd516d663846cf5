// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
)

const (
	// group is the group of the nodes, which share its keys.
	group = "kv"
	// partitions is in how many parts they share them. It never changes: a hundred times as many as there will be nodes is good.
	partitions = 1024
)

// settings are the group's. A node that is lost keeps its keys until it is back: nobody else has them.
func settings() router.Settings { return router.Settings{Partitions: partitions, Kind: router.Data} }

// runNode is a node: it keeps a part of the keys in a file, and runs until ctx ends. It is a router.Node, which knows the keys
// whose node this is now, and a participant of the same name, which transactions find by their keys.
func runNode(ctx context.Context, nc *nats.Conn, name, dir string, log *logrus.Logger) error {
	s, err := openStore(filepath.Join(dir, name+".db"), tables.Durable(), group, partitions)
	if err != nil {
		return err
	}
	hooks := &handover.Hooks{Holdings: s.holdings, Conn: nc, Node: name, Prefix: messages.DefaultPrefix, Log: log}
	node, err := router.NewNode(nc, router.NodeConfig{
		Config: router.Config{Log: log}, Group: group, Name: name, Hooks: hooks,
		Settings: settings(),
	})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	node.Serve(s.serve)
	p, err := participant.New(nc, participant.Config{Name: name, Batch: s, Ownership: node, Log: log})
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return errors.Join(hooks.Run(ctx, node, p), s.Close())
}

// answer is what a node says of a key.
type answer struct {
	// Value is null when there is no such key.
	Value json.RawMessage `json:"value"`
	// Held: a transaction holds the key. It may be decided already, and its client may know that.
	Held  bool   `json:"held,omitempty"`
	Error string `json:"error,omitempty"`
}

// serve answers who asks for a key, outside of transactions. The router calls it only while the key's partition is here, and
// does not hand that over before it has returned.
func (s *store) serve(_ context.Context, key string, msg *nats.Msg) {
	i, err := s.get(key)
	a := answer{Value: i.Value, Held: i.Holder != nil}
	if err != nil {
		a.Error = err.Error()
	}
	data, err := json.Marshal(a)
	if err != nil {
		data = nil // a value that is no JSON: the client says so
	}
	_ = msg.Respond(data) // whoever hears nothing asks again
}
