// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"time"

	"github.com/assent-tx/assent/locks"
)

// Resolver lets a test stand in for the router of a client.
type Resolver = resolver

// StandIn gives the client a router. It must not have one.
func (c *Client) StandIn(r Resolver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring != nil {
		panic("assent: the client has a router already")
	}
	c.ring = r
}

// Unconnected is a client that does nothing but begin transactions, and the end of its life.
func Unconnected(patience time.Duration) (c *Client, end func()) {
	closing := make(chan struct{})
	return &Client{cfg: Config{Patience: patience}, closing: closing}, func() { close(closing) }
}

// DoWith is Do with another Commit.
func (c *Client) DoWith(ctx context.Context, f func(*Tx) error, commit func(*Tx, context.Context) error, options ...TxOption) error {
	return c.do(ctx, f, commit, options)
}

// Since is the age that the transaction claims, in Unix microseconds; 0 for a first attempt.
func (tx *Tx) Since() int64 { return tx.sub.Since }

// Given makes the transaction one that may have been submitted, as Commit does.
func (tx *Tx) Given() { tx.given = true }

// Held are the locks that the transaction has now.
func (tx *Tx) Held() locks.Locks {
	if tx.held == nil {
		return nil
	}
	return tx.held.locks
}

// EndSession ends the session of the client's locks, as if it had been lost.
func (c *Client) EndSession(ctx context.Context) error {
	c.leases.mu.Lock()
	defer c.leases.mu.Unlock()
	return c.leases.session.Close(ctx)
}
