// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/router"
)

// client is what a program has that uses the store.
type client struct {
	transactions *assent.Client
	router       *router.Client
}

func newClient(nc *nats.Conn) (*client, error) {
	transactions, err := assent.New(nc, assent.Config{})
	if err != nil {
		return nil, err
	}
	keys, err := router.NewClient(nc, router.Config{})
	if err != nil {
		transactions.Close()
		return nil, err
	}
	return &client{transactions, keys}, nil
}

func (c *client) close() {
	c.transactions.Close()
	c.router.Close()
}

// heldPause is between two questions for a key that a transaction holds.
const heldPause = 5 * time.Millisecond

// get gives a key's value, nil when there is no such key. It sees what every transaction has done of which somebody was told before
// that it is committed: while one holds the key, whose outcome may be known to others, it asks again.
func (c *client) get(ctx context.Context, key string) (json.RawMessage, error) {
	for {
		a, err := c.ask(ctx, key)
		if err != nil || !a.Held {
			return a.Value, err
		}
		select {
		case <-time.After(heldPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("get %s: %w: %w", key, errHeld, context.Cause(ctx))
		}
	}
}

// ask asks the node of a key, wherever that is; while the key moves it is waited for.
func (c *client) ask(ctx context.Context, key string) (a answer, err error) {
	msg, err := c.router.Request(ctx, group, key, nil)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return a, fmt.Errorf("get %s: %w", key, err)
	}
	if string(a.Value) == "null" {
		a.Value = nil
	}
	if a.Error != "" {
		return a, fmt.Errorf("get %s: %s", key, a.Error)
	}
	return a, nil
}

// do makes changes of any keys, all or none. It returns assent.ErrAborted if a node has refused one, and how many moves of keys it
// met on its way.
func (c *client) do(ctx context.Context, keys []string, ops []op) (moves int, err error) {
	tx := c.transactions.Begin()
	for i, key := range keys {
		tx.EnlistKey(group, key, ops[i])
	}
	err = tx.Commit(ctx)
	if errors.Is(err, assent.ErrUnknown) { // perhaps committed: never do it again under a new id, ask
		var outcome assent.Outcome
		if outcome, err = c.transactions.Wait(ctx, tx.ID()); err == nil && outcome == assent.Aborted {
			err = assent.ErrAborted
		}
	}
	for id := tx.ID(); id != tx.Last(); id = id.Next() {
		moves++
	}
	return moves, err
}
