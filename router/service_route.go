// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/micro"
)

const (
	// maxRouteKeys is how many keys one request may have.
	maxRouteKeys = 4096
	// epochTime is how long the service waits for a ring as new as was asked for, and readTime for one that it has to read first.
	epochTime = 2 * time.Second
	readTime  = 5 * time.Second
	// maxWaiting is how many may wait at a time.
	maxWaiting = 1024
)

// route answers who owns a key, or keys: at once, in the order of the requests, if it knows a ring that is new enough.
func (s *Service) route(ctx context.Context, req micro.Request) {
	request := new(RouteRequest)
	err := strictJSON(req.Data(), request)
	if err == nil {
		err = request.check()
	}
	if err != nil {
		s.reply(req.Reply(), nil, err)
		return
	}
	if t := s.client.known(request.Group); t != nil && t.epoch >= request.MinEpoch {
		data, err := t.answer(request)
		s.reply(req.Reply(), data, err)
		return
	}
	select {
	case s.waiting <- struct{}{}:
	default:
		s.reply(req.Reply(), nil, fmt.Errorf("router: %w", errBusy))
		return
	}
	s.answers.Go(func() {
		defer func() { <-s.waiting }()
		t, err := s.client.reach(ctx, request.Group, request.MinEpoch)
		var data []byte
		if err == nil {
			data, err = t.answer(request)
		}
		s.reply(req.Reply(), data, err)
	})
}

func (r *RouteRequest) check() error {
	if err := checkName("group", r.Group); err != nil {
		return err
	}
	switch {
	case (r.Key == nil) == (r.Keys == nil):
		return fmt.Errorf("router: %w: want key or keys, one of them", ErrInvalid)
	case len(r.Keys) > maxRouteKeys:
		return fmt.Errorf("router: %w: %d keys: at most %d in one request", ErrInvalid, len(r.Keys), maxRouteKeys)
	case r.Key != nil:
		return checkKey(*r.Key)
	}
	for _, key := range r.Keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return nil
}

// known gives the table of a group that is followed; nil when it has to be waited for.
func (c *Client) known(group string) *table {
	g := (*c.groups.Load())[group]
	if g == nil {
		return nil
	}
	t, err := g.ring()
	if err != nil {
		return nil
	}
	return t
}

// reach gives the table of a group when its epoch is at least a given one. It waits for that for a while.
func (c *Client) reach(ctx context.Context, group string, epoch uint64) (*table, error) {
	reading, cancel := context.WithTimeout(ctx, readTime)
	t, err := c.ring(reading, group)
	cancel()
	if err != nil {
		return nil, err
	}
	ctx, cancel = context.WithTimeout(ctx, epochTime)
	defer cancel()
	for t.epoch < epoch {
		if err := c.After(ctx, group, t.incarnation, t.epoch); err != nil {
			return nil, err
		}
		if t, err = c.ring(ctx, group); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// answer is the response to a request, as JSON. It is written by hand: encoding/json takes several times as long.
func (t *table) answer(r *RouteRequest) ([]byte, error) {
	if r.Key != nil {
		route := t.route(*r.Key)
		if route.Node == "" {
			return nil, t.noNodes(*r.Key)
		}
		b := t.appendHead(make([]byte, 0, 256))
		b = appendRoute(append(b, ','), &route)
		return append(b, '}'), nil
	}
	if t.owned == 0 && len(r.Keys) > 0 {
		return nil, t.noNodes(r.Keys[0])
	}
	b := t.appendHead(make([]byte, 0, 128+len(r.Keys)*96))
	b = append(b, `,"routes":[`...)
	for i, key := range r.Keys {
		if i > 0 {
			b = append(b, ',')
		}
		route := t.route(key)
		b = append(appendRoute(append(b, '{'), &route), '}')
	}
	return append(b, "]}"...), nil
}

// appendHead writes which ring it is, and leaves the object open.
func (t *table) appendHead(b []byte) []byte {
	b = append(b, `{"group":"`...) // a name needs no escaping
	b = append(b, t.group...)
	b = append(b, `","incarnation":`...)
	b = strconv.AppendUint(b, t.incarnation, 10)
	b = append(b, `,"epoch":`...)
	return strconv.AppendUint(b, t.epoch, 10)
}

// appendRoute writes the fields of a KeyRoute.
func appendRoute(b []byte, route *Route) []byte {
	b = append(b, `"partition":`...)
	b = strconv.AppendInt(b, int64(route.Partition), 10)
	b = append(b, `,"node":"`...)
	b = append(b, route.Node...)
	b = append(b, `","subject":"`...)
	for i := range len(route.Subject) { // printable ASCII, as the record was checked
		if c := route.Subject[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, route.Subject[i])
	}
	b = append(b, `","moving":`...)
	b = strconv.AppendBool(b, route.Moving)
	return b
}
