// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/internal/panics"
)

// RequestHandler answers a request for a key that the node owns, by msg.Respond or msg.RespondMsg. The key's partition is not
// handed over before it returns. Its context ends when the node's session is lost: then others may be about to take
// over. A panic is logged, and leaves the request without an answer.
type RequestHandler func(ctx context.Context, key string, msg *nats.Msg)

// Serve has requests handled that come by key (Client.Request), NodeConfig.Workers at once. It is called once, before Run.
func (n *Node) Serve(handler RequestHandler) { n.handler = handler }

// requests are those that a node is asked.
type requests struct {
	n            *Node
	subscription *nats.Subscription // nil: none are taken
	drained      chan struct{}
	places       chan struct{}
	running      sync.WaitGroup
}

// listen takes requests, also while the node owns nothing yet: then it says so.
func (n *Node) listen() (*requests, error) {
	q := &requests{n: n, drained: make(chan struct{}), places: make(chan struct{}, n.cfg.Workers)}
	if n.handler == nil {
		return q, nil
	}
	var err error
	if q.subscription, err = n.store.nc.Subscribe(n.cfg.subject(), q.take); err != nil {
		return nil, fmt.Errorf("router: node %s of group %s: subscribe %s: %w", n.cfg.Name, n.cfg.Group, n.cfg.subject(), err)
	}
	q.subscription.SetClosedHandler(func(string) { close(q.drained) })
	return q, nil
}

// end takes no more, and lets those end that are in hand or have been sent.
func (q *requests) end(ctx context.Context) {
	if q.subscription == nil || q.subscription.Drain() != nil { // the connection is closed, and all of it over
		return
	}
	select {
	case <-q.drained:
		waitFor(ctx, q.running.Wait) // most are over: the gates were waited for
	case <-ctx.Done():
		_ = q.subscription.Unsubscribe() // its only error is that it is gone already
	}
}

// take waits for a place: what comes meanwhile waits in the connection.
func (q *requests) take(msg *nats.Msg) {
	q.places <- struct{}{}
	q.running.Go(func() {
		defer func() { <-q.places }()
		q.handle(msg)
	})
}

func (q *requests) handle(msg *nats.Msg) {
	key, incarnation, epoch, err := parseRequest(msg)
	if err != nil {
		q.answer(msg, nats.Header{micro.ErrorCodeHeader: {"400"}, micro.ErrorHeader: {err.Error()}})
		return
	}
	g, by, err := q.n.enter(key, incarnation, epoch)
	if err != nil {
		q.refuse(msg, err)
		return
	}
	defer g.leave()
	defer func() {
		if reason := recover(); reason != nil {
			panics.Log(q.n.log, panics.Recovered("the handler of requests", reason)).Error("a request was not served")
		}
	}()
	q.n.handler(by.term.ctx, key, msg)
}

// parseRequest reads the headers. A request without a ring is for whoever owns the key.
func parseRequest(msg *nats.Msg) (key string, incarnation, epoch uint64, err error) {
	key = msg.Header.Get(HeaderKey)
	if key == "" {
		return "", 0, 0, fmt.Errorf("router: %w: the header %s is missing: it has the key that the request is about", ErrInvalid, HeaderKey)
	}
	if text := msg.Header.Get(HeaderRing); text != "" {
		incarnation, epoch, err = parseRing(text)
	}
	return key, incarnation, epoch, err
}

// refuse says why nothing was done.
func (q *requests) refuse(msg *nats.Msg, err error) {
	var wrong *WrongOwnerError
	var later *notReadyError
	switch {
	case errors.As(err, &wrong):
		q.answer(msg, nats.Header{HeaderWrongOwner: {formatRing(wrong.Incarnation, wrong.Epoch)}})
	case errors.As(err, &later):
		q.answer(msg, nats.Header{HeaderTryAgain: {strings.ReplaceAll(later.reason, "\n", " ")}})
	}
}

func (q *requests) answer(msg *nats.Msg, header nats.Header) {
	if msg.Reply == "" {
		return
	}
	if err := msg.RespondMsg(&nats.Msg{Subject: msg.Reply, Header: header}); err != nil {
		q.n.log.WithError(err).Debug("a request was not answered")
	}
}
