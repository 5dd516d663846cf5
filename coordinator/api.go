// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/messages"
)

// ServiceName is the NATS micro service's name.
const ServiceName = "assent"

// ServiceVersion is the version that the micro service tells, a semantic version.
const ServiceVersion = "0.1.0"

// apiTimeout bounds one query, and apiWorkers how many run at once.
const (
	apiTimeout = 30 * time.Second
	apiWorkers = 16
	// maxHeader is room for a response's headers.
	maxHeader = 1 << 10
)

// apiError is an error that a caller of the API is told, by a code.
type apiError struct {
	code    string
	message string
}

func (e *apiError) Error() string { return e.message }

// The codes of API errors.
const (
	codeBadRequest = "400"
	codeNotFound   = "404"
	codeInternal   = "500"
	codeNotLeading = "503" // among coordinators only
)

func badRequest(format string, args ...any) error {
	return &apiError{codeBadRequest, fmt.Sprintf(format, args...)}
}

// serveAPI opens the micro service. Its handlers run on workers: micro itself would run them one after the other.
func (c *Coordinator) serveAPI(ctx context.Context) (stop func(), err error) {
	service, err := micro.AddService(c.nc, micro.Config{
		Name: ServiceName, Version: ServiceVersion, Description: "Assent: atomic transactions over NATS",
		Metadata: map[string]string{"coordinator": c.cfg.Name, "prefix": c.cfg.Prefix}, QueueGroup: "coordinators",
	})
	if err != nil {
		return nil, fmt.Errorf("micro service: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	workers := make(chan struct{}, apiWorkers)
	for name, handle := range map[string]func(context.Context, []byte) (any, error){
		"register":     endpoint(c.register),
		"info":         endpoint(c.info),
		"health":       endpoint(c.health),
		"participants": endpoint(c.participants),
		"tx.show":      endpoint(c.show),
		"tx.list":      endpoint(c.list),
		"tx.abort":     endpoint(c.abort),
		"tx.retry":     endpoint(c.retry),
	} {
		err := service.AddEndpoint(endpointName(name), micro.HandlerFunc(func(req micro.Request) {
			workers <- struct{}{}
			running.Go(func() {
				defer func() { <-workers }()
				c.respond(ctx, req, handle)
			})
		}), micro.WithEndpointSubject(c.subjects.API(name)))
		if err != nil {
			cancel()
			return nil, errors.Join(fmt.Errorf("endpoint %s: %w", name, err), service.Stop())
		}
	}
	if err := c.nc.FlushTimeout(apiTimeout); err != nil { // who hears of Ready may ask at once
		cancel()
		return nil, errors.Join(fmt.Errorf("micro service: %w", err), service.Stop())
	}
	return func() {
		cancel()
		if err := service.Stop(); err != nil {
			c.cfg.Log.WithError(err).Debug("stopping the micro service")
		}
		running.Wait()
	}, nil
}

// endpointName is a micro endpoint's name, which may not have dots.
func endpointName(name string) string {
	out := []byte(name)
	for i, b := range out {
		if b == '.' {
			out[i] = '-'
		}
	}
	return string(out)
}

// endpoint reads a request's JSON; an empty request is an empty object. Unknown fields are refused.
func endpoint[Request any](handle func(context.Context, *Request) (any, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, data []byte) (any, error) {
		var request Request
		if len(data) > 0 {
			if err := strictJSON(data, &request); err != nil {
				return nil, badRequest("%v", err)
			}
		}
		return handle(ctx, &request)
	}
}

// respond answers by a message of its own: micro reads its request again when the handler has returned, which is long
// before a worker is done.
func (c *Coordinator) respond(ctx context.Context, req micro.Request, handle func(context.Context, []byte) (any, error)) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	response, err := handle(ctx, req.Data())
	c.reply(req.Reply(), req.Subject(), response, err)
}

// reply sends a response, or the error instead.
func (c *Coordinator) reply(to, subject string, response any, err error) {
	if to == "" {
		return // nobody asked
	}
	reply := &nats.Msg{Subject: to, Header: nats.Header{}}
	if err == nil {
		reply.Data, err = json.Marshal(response)
	}
	if limit := c.nc.MaxPayload(); err == nil && int64(len(reply.Data)) > limit-maxHeader {
		err = fmt.Errorf("the response has %d bytes; the server's max_payload is %d: ask for less", len(reply.Data), limit)
	}
	if err != nil {
		code := codeInternal
		var known *apiError
		if errors.As(err, &known) {
			code = known.code
		}
		reply.Header.Set(micro.ErrorCodeHeader, code)
		reply.Header.Set(micro.ErrorHeader, err.Error())
		reply.Data, _ = json.Marshal(map[string]string{"error": err.Error()}) // a map of strings always marshals
	}
	if err := c.nc.PublishMsg(reply); err != nil {
		c.cfg.Log.WithError(err).WithField("subject", subject).Debug("a response was not sent")
	}
}

// inLeader runs f in the goroutine of a shard's leader, whether it leads or stands by. When that has ended, f may not have
// run.
func (l *leader) inLeader(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case l.calls <- func() { f(); close(done) }:
	case <-l.ended:
		return errNotLeading
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-l.ended:
		return errNotLeading
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TxRequest names a transaction to the API.
type TxRequest struct {
	Tx messages.ID `json:"tx"`
	// Reason is recorded with an abort; default "operator".
	Reason string `json:"reason,omitempty"`
}

// shardOf is the shard of the transaction that a request names.
func (c *Coordinator) shardOf(tx messages.ID) (int, error) {
	if tx.IsZero() {
		return 0, badRequest("tx: missing: want a transaction's id")
	}
	return tx.Shard(len(c.leaders)), nil
}

// InfoResponse describes a coordinator.
type InfoResponse struct {
	Coordinator string `json:"coordinator"`
	Version     string `json:"version"`
	Prefix      string `json:"prefix"`
	Shards      int    `json:"shards"`
	Replicas    int    `json:"replicas"`
	Protocol    int    `json:"protocol"`
}

func (c *Coordinator) info(context.Context, *struct{}) (any, error) {
	return &InfoResponse{
		Coordinator: c.cfg.Name, Version: ServiceVersion, Prefix: c.cfg.Prefix,
		Shards: c.cfg.Shards, Replicas: c.cfg.Replicas, Protocol: messages.Version,
	}, nil
}

// HealthResponse says whether a coordinator can do its work.
type HealthResponse struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason,omitempty"`
}

func (c *Coordinator) health(context.Context, *struct{}) (any, error) {
	if err := c.Healthy(); err != nil {
		return &HealthResponse{Reason: err.Error()}, nil //nolint:nilerr // that is the answer
	}
	return &HealthResponse{Healthy: true}, nil
}
