// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// Patience with the coordinator's API: how long one answer may take (it may search the log), how long a coordinator may be
// missing (one that restarts is back sooner), and how often it is looked for.
const (
	apiPatience     = 35 * time.Second
	missingPatience = 2 * time.Second
	missingPause    = 50 * time.Millisecond
)

// api asks a coordinator's API and decodes the answer into response.
func (g *globals) api(ctx context.Context, nc *nats.Conn, endpoint string, request, response any) error {
	if !messages.ValidPrefix(g.Prefix) {
		return usagef("--prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", g.Prefix)
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	msg, err := g.request(ctx, nc, messages.Subjects{Prefix: g.Prefix}.API(endpoint), body, theCoordinator)
	if err != nil {
		return err
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		return apiFailure(code, msg.Header.Get(micro.ErrorHeader))
	}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		return fmt.Errorf("the coordinator's answer cannot be read: is it of another version? %w", err)
	}
	return nil
}

// service is who answers requests.
type service struct {
	name    string
	missing string // the code of the error when there is none
	start   string // what to do then
}

var theCoordinator = service{"coordinator", "no_coordinator", "start one with `assent serve`"}

// request sends a request until somebody takes it.
func (g *globals) request(ctx context.Context, nc *nats.Conn, subject string, body []byte, of service) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiPatience)
	defer cancel()
	ctx, deny := context.WithCancelCause(ctx)
	defer deny(nil)
	go whenDenied(ctx, nc, subject, deny)
	giveUp := time.Now().Add(missingPatience)
	for {
		msg, err := nc.RequestWithContext(ctx, subject, body)
		switch {
		case err == nil:
			return msg, nil
		case errors.Is(context.Cause(ctx), nats.ErrPermissionViolation):
			return nil, &codedError{"unauthorized", fmt.Errorf("asking the %s (%s): the NATS server at %s does not allow it to this user: %w",
				of.name, subject, redact(nc.ConnectedUrl()), context.Cause(ctx))}
		case !errors.Is(err, nats.ErrNoResponders):
			return nil, fmt.Errorf("asking the %s (%s): %w", of.name, subject, err)
		case time.Now().After(giveUp):
			return nil, &codedError{of.missing, fmt.Errorf(
				"no %s answers on %s at %s: %s, or give its --prefix", of.name, subject, redact(nc.ConnectedUrl()), of.start)}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(missingPause):
		}
	}
}

// whenDenied ends a request that the server has not let pass: it says so by the way, and nobody would answer. The answer
// may be what is denied, to who has no inbox prefix that is allowed to the user.
func whenDenied(ctx context.Context, nc *nats.Conn, subject string, deny context.CancelCauseFunc) {
	ticker := time.NewTicker(missingPause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := nc.LastError()
		if errors.Is(err, nats.ErrPermissionViolation) &&
			(strings.Contains(err.Error(), strconv.Quote(subject)) || strings.Contains(err.Error(), `Subscription to "`+nc.Opts.InboxPrefix)) {
			deny(err)
			return
		}
	}
}

// apiFailure is an error that the API answers.
func apiFailure(code, message string) error {
	switch code {
	case "404":
		return &codedError{"not_found", errors.New(message)}
	case "400":
		return usageError(&codedError{"invalid", errors.New(message)})
	default:
		return &codedError{"failed", fmt.Errorf("the coordinator reports: %s", message)}
	}
}

// ask is a command that is one question to the API: connect, ask, print the answer as JSON, or by show as text.
func ask[Response any](ctx context.Context, g *globals, endpoint string, request any, show func(*Response)) (*Response, error) {
	nc, err := g.connect()
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	response := new(Response)
	if err := g.api(ctx, nc, endpoint, request, response); err != nil {
		return nil, err
	}
	if g.JSON {
		return response, g.printJSON(response)
	}
	show(response)
	return response, nil
}

// findCoordinator fails, soon, when there is none to submit to.
func (g *globals) findCoordinator(ctx context.Context, nc *nats.Conn) error {
	var info coordinator.InfoResponse
	return g.api(ctx, nc, "info", struct{}{}, &info)
}
