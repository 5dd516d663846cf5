// SPDX-License-Identifier: Apache-2.0

package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// ServiceName is the NATS micro service's name, ServiceVersion the version that it tells, a semantic version.
const (
	ServiceName    = "assent-route"
	ServiceVersion = "0.1.0"
)

const (
	// apiTimeout bounds one request of the API, and apiWorkers how many are in work at once.
	apiTimeout = 30 * time.Second
	apiWorkers = 16
	// maxHeader is room for a response's headers.
	maxHeader = 1 << 10
)

// serve opens the micro service.
func (s *Service) serve(ctx context.Context) (stop func(), err error) {
	service, err := micro.AddService(s.nc, micro.Config{
		Name: ServiceName, Version: ServiceVersion, Description: "Assent: which node owns a key", QueueGroup: "routers",
		Metadata: map[string]string{"prefix": s.cfg.Prefix, "router": s.cfg.Name},
	})
	if err != nil {
		return nil, fmt.Errorf("router: micro service: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	stop = func() {
		cancel()
		if err := service.Stop(); err != nil {
			s.cfg.Log.WithError(err).Debug("stopping the micro service")
		}
		s.answers.Wait()
	}
	err = service.AddEndpoint("route", micro.HandlerFunc(func(req micro.Request) { s.route(ctx, req) }), micro.WithEndpointSubject(s.s.names.routeSubject()))
	for name, handle := range s.endpoints() {
		if err == nil {
			err = service.AddEndpoint(strings.ReplaceAll(name, ".", "-"), s.inWorker(ctx, handle), micro.WithEndpointSubject(s.s.names.apiSubject(name)))
		}
	}
	if err == nil {
		err = s.nc.FlushTimeout(apiTimeout) // who hears of Ready may ask at once
	}
	if err != nil {
		stop()
		return nil, fmt.Errorf("router: micro service: %w", err)
	}
	return stop, nil
}

// handler answers a request of the API.
type handler func(ctx context.Context, data []byte) (any, error)

func (s *Service) endpoints() map[string]handler {
	return map[string]handler{
		"ring.list": endpoint(func(ctx context.Context, _ *struct{}) (any, error) {
			groups, err := s.groups.List(ctx)
			for i := range groups {
				groups[i].withoutOwners()
			}
			return &ListResponse{groups}, err
		}),
		"ring.show": endpoint(func(ctx context.Context, r *ShowRequest) (any, error) {
			group, err := s.groups.Show(ctx, r.Group)
			if err == nil && !r.Owners {
				group.withoutOwners()
			}
			return group, err
		}),
		"ring.change": endpoint(func(ctx context.Context, r *ChangeRequest) (any, error) { return s.groups.Change(ctx, *r) }),
		"ring.delete": endpoint(func(ctx context.Context, r *DeleteRequest) (any, error) { return s.groups.Delete(ctx, *r) }),
		"nodes": endpoint(func(ctx context.Context, r *NodesRequest) (any, error) {
			nodes, err := s.groups.Nodes(ctx, r.Group)
			return &NodesResponse{nodes}, err
		}),
	}
}

func (g *Group) withoutOwners() { g.Owners, g.Targets, g.Moves = nil, nil, nil }

// endpoint reads a request's JSON; an empty request is an empty object.
func endpoint[Request any](handle func(context.Context, *Request) (any, error)) handler {
	return func(ctx context.Context, data []byte) (any, error) {
		var request Request
		if len(data) > 0 {
			if err := strictJSON(data, &request); err != nil {
				return nil, err
			}
		}
		return handle(ctx, &request)
	}
}

// strictJSON reads one object and refuses fields that it does not know: who sends them means something by them.
func strictJSON(data []byte, into any) error {
	if !utf8.Valid(data) { // the decoder would change what is not
		return fmt.Errorf("router: %w: the request is not UTF-8", ErrInvalid)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("bytes after the object")
	}
	return fmt.Errorf("router: %w: the request: %w", ErrInvalid, err)
}

// inWorker runs a handler on a worker: micro itself would run them one after the other.
func (s *Service) inWorker(ctx context.Context, handle handler) micro.Handler {
	return micro.HandlerFunc(func(req micro.Request) {
		s.workers <- struct{}{}
		s.answers.Go(func() {
			defer func() { <-s.workers }()
			ctx, cancel := context.WithTimeout(ctx, apiTimeout)
			defer cancel()
			response, err := handle(ctx, req.Data())
			var data []byte
			if err == nil {
				data, err = json.Marshal(response)
			}
			s.reply(req.Reply(), data, err)
		})
	})
}

// reply sends a response, or the error instead; by a message of its own, because micro reads its request again when the handler
// has returned, which may be long before.
func (s *Service) reply(to string, data []byte, err error) {
	if to == "" {
		return // nobody asked
	}
	if limit := s.nc.MaxPayload(); err == nil && int64(len(data)) > limit-maxHeader {
		err = fmt.Errorf("router: %w: the response has %d bytes; the server's max_payload is %d: ask for less at a time", ErrInvalid, len(data), limit)
	}
	if err == nil {
		err = s.nc.Publish(to, data)
	} else {
		err = s.nc.PublishMsg(problemMessage(to, err))
	}
	if err != nil {
		s.cfg.Log.WithError(err).Debug("a response was not sent")
	}
}

func problemMessage(to string, err error) *nats.Msg {
	number, code := problemOf(err)
	text := strings.TrimPrefix(err.Error(), "router: ")
	msg := &nats.Msg{Subject: to, Header: nats.Header{}}
	msg.Header.Set(micro.ErrorCodeHeader, number)
	msg.Header.Set(micro.ErrorHeader, text)
	msg.Data, _ = json.Marshal(&Problem{text, code}) // strings always marshal
	return msg
}

// errBusy is of a request that came when too many waited.
var errBusy = errors.New("too many requests wait already; try again")

// problems are the codes of errors; the first that is right counts.
var problems = []struct {
	err          error
	number, code string
}{
	{ErrNoGroup, "404", CodeNoGroup},
	{ErrNoNode, "404", CodeNoNode},
	{ErrNotReached, "408", CodeEpochNotReached},
	{ErrExists, "409", CodeExists},
	{ErrLastNode, "409", CodeNeedsForce},
	{ErrDownWithData, "409", CodeNeedsForce},
	{ErrNotEmpty, "409", CodeNeedsForce},
	{ErrNoNodes, "409", CodeNoNodes},
	{ErrConflict, "409", CodeConflict},
	{ErrRecord, "500", CodeRecord},
	{ErrNewerRecord, "500", CodeNewerRecord},
	{ErrUnknown, "500", CodeUnknown},
	{errBusy, "503", CodeBusy},
	{ErrInvalid, "400", CodeInvalid},
}

func problemOf(err error) (number, code string) {
	for _, p := range problems {
		if errors.Is(err, p.err) {
			return p.number, p.code
		}
	}
	return "500", CodeFailed
}
