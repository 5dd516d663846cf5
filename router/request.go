// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// requestTime bounds a request whose context has no deadline.
	requestTime = 30 * time.Second
	// firstAgain and lastAgain are the pauses between attempts, unless the ring changes: the first, and at most.
	firstAgain = 10 * time.Millisecond
	lastAgain  = 500 * time.Millisecond
)

// Request asks the node that owns a key, and gives its answer. While the node does not own the key any more, is not ready, or
// nobody is there, the ring is read again and the request made again, until ctx ends; one without a deadline gets 30 s.
// A request that was sent and not answered is not made again: what it asked for may have been done.
//
// The error says what was so at last, and is the context's too when that ended it. It is ErrUnknown when the request may have
// been done. It was not done when the error is ErrWrongOwner, ErrNotReady (the node, or none was there), ErrNoNodes, ErrNoGroup,
// or as Route's.
func (c *Client) Request(ctx context.Context, group, key string, data []byte) (*nats.Msg, error) {
	if err := checkHeaderKey(key); err != nil {
		return nil, err
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, requestTime)
		defer cancel()
	}
	var err error
	for again := firstAgain; ; again = min(2*again, lastAgain) {
		route, routeErr := c.Route(ctx, group, key)
		switch {
		case routeErr == nil:
			var answer *nats.Msg
			if answer, err = c.attempt(ctx, &route, data); err == nil {
				return answer, nil
			}
		case ctx.Err() == nil || err == nil:
			err = routeErr
		}
		if !worthAgain(err) {
			return nil, err
		}
		c.refreshed(ctx, &route, again)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// worthAgain tells whether to try again what was not done.
func worthAgain(err error) bool {
	return errors.Is(err, ErrWrongOwner) || errors.Is(err, ErrNotReady) || errors.Is(err, ErrNoNodes)
}

// refreshed reads the ring, and waits until it is another than a route's, for a while.
func (c *Client) refreshed(ctx context.Context, route *Route, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d/2+rand.N(d/2))
	defer cancel()
	if route.Group == "" || c.After(ctx, route.Group, route.Incarnation, route.Epoch) != nil {
		<-ctx.Done()
	}
}

// attempt asks once.
func (c *Client) attempt(ctx context.Context, route *Route, data []byte) (*nats.Msg, error) {
	msg := &nats.Msg{Subject: route.Subject, Data: data, Header: nats.Header{
		HeaderKey: {route.Key}, HeaderRing: {formatRing(route.Incarnation, route.Epoch)},
	}}
	answer, err := c.s.nc.RequestMsgWithContext(ctx, msg)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("router: %w: %s of group %s, which owns the key %.80q in epoch %d: nobody takes requests on %s",
			ErrNotReady, route.Node, route.Group, route.Key, route.Epoch, route.Subject)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("router: %w: the node %s of group %s was asked for the key %.80q and has not answered: %w",
			ErrUnknown, route.Node, route.Group, route.Key, err)
	case err != nil: // it was not sent
		return nil, fmt.Errorf("router: ask the node %s of group %s: %w", route.Node, route.Group, err)
	}
	return c.understand(route, answer)
}

// understand takes an answer, or that there is none yet.
func (c *Client) understand(route *Route, answer *nats.Msg) (*nats.Msg, error) {
	if answer.Header == nil {
		return answer, nil
	}
	if text := answer.Header.Get(HeaderWrongOwner); text != "" {
		incarnation, epoch, err := parseRing(text)
		if err != nil {
			return nil, fmt.Errorf("router: the node %s of group %s: header %s: %w", route.Node, route.Group, HeaderWrongOwner, err)
		}
		return nil, &WrongOwnerError{Group: route.Group, Key: route.Key, Node: route.Node, Incarnation: incarnation, Epoch: epoch}
	}
	if reason := answer.Header.Get(HeaderTryAgain); reason != "" {
		return nil, fmt.Errorf("router: %w: %s of group %s, for the key %.80q: %s", ErrNotReady, route.Node, route.Group, route.Key, reason)
	}
	return answer, nil
}
