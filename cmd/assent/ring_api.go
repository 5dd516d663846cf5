// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

var theRouter = service{"routing service", "no_router", "`assent serve` runs one"}

// router asks the routing service's API and decodes the answer into response.
func (g *globals) router(ctx context.Context, nc *nats.Conn, endpoint string, request, response any) error {
	return g.routing(ctx, nc, messages.Subjects{Prefix: g.Prefix}.API(endpoint), request, response)
}

// routing asks the routing service on a subject, and decodes the answer into response.
func (g *globals) routing(ctx context.Context, nc *nats.Conn, subject string, request, response any) error {
	if !messages.ValidPrefix(g.Prefix) {
		return usagef("--prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", g.Prefix)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if limit := nc.MaxPayload(); int64(len(body)) > limit {
		return usagef("the request has %d bytes; the server's max_payload is %d: ask for less at once", len(body), limit)
	}
	msg, err := g.request(ctx, nc, subject, body, theRouter)
	if err != nil {
		return err
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		return routerFailure(msg, code)
	}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		return fmt.Errorf("the routing service's answer cannot be read: is it of another version? %w", err)
	}
	return nil
}

// routerFailure is an error that the routing service answers. Its code is in the body, in a word.
func routerFailure(msg *nats.Msg, status string) error {
	var body router.Problem
	if json.Unmarshal(msg.Data, &body) != nil || body.Code == "" {
		return &codedError{"failed", fmt.Errorf("the routing service reports: %s (%s)", msg.Header.Get(micro.ErrorHeader), status)}
	}
	err := &codedError{body.Code, errors.New(body.Error)}
	switch body.Code {
	case router.CodeInvalid:
		return usageError(err)
	case router.CodeUnknown:
		return &exitError{exitUnknown, err}
	default:
		return err
	}
}

// changing asks the routing service to change a group. When nobody can say whether it did, the error is that, unless it was a dry run.
func (g *globals) changing(ctx context.Context, nc *nats.Conn, endpoint, group string, dryRun bool, request, response any) error {
	err := g.router(ctx, nc, endpoint, request, response)
	switch code := errorCode(err); {
	case err == nil, dryRun:
		return err
	case code == router.CodeUnknown, code == router.CodeFailed && !told(err):
		err = fmt.Errorf("whether group %s was changed is not known: see assent ring show %s, and try again: %w", group, group, err)
		return &exitError{exitUnknown, &codedError{router.CodeUnknown, err}}
	default:
		return err
	}
}

// told tells whether an error is the routing service's own answer.
func told(err error) bool {
	var coded *codedError
	return errors.As(err, &coded)
}

// askRouter is a command that is one question to the routing service's API: connect, ask, print the answer as JSON, or by show as text.
func askRouter[Response any](ctx context.Context, g *globals, endpoint string, request any, show func(*Response)) error {
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	response := new(Response)
	if err := g.router(ctx, nc, endpoint, request, response); err != nil {
		return err
	}
	if g.JSON {
		return g.printJSON(response)
	}
	show(response)
	return nil
}
