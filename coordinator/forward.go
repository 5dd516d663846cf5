// SPDX-License-Identifier: Apache-2.0

package coordinator

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
)

// Questions about a shard are its leader's to answer: only it knows what participants are owed, and has read everything. Any
// coordinator may be asked, and passes on what is about shards that it does not lead, to <prefix>.lead.<shard>.<name>, with
// the request and the response of the API's endpoint of that name, for that shard alone.

// shardSubject is where the leader of a shard is asked by other coordinators.
func shardSubject(prefix string, shard int, name string) string {
	return prefix + ".lead." + strconv.Itoa(shard) + "." + name
}

// shardHandler answers a question about one shard by the leader of it, here.
type shardHandler func(ctx context.Context, l *leader, data []byte) (any, error)

// shardAnswer is a method of leader that answers a question.
type shardAnswer[Request, Response any] func(*leader, context.Context, *Request) (*Response, error)

// inShard makes a handler of what answers here.
func inShard[Request, Response any](answer shardAnswer[Request, Response]) shardHandler {
	return func(ctx context.Context, l *leader, data []byte) (any, error) {
		return endpoint(func(ctx context.Context, request *Request) (any, error) { return answer(l, ctx, request) })(ctx, data)
	}
}

// errNotLeading is of a question to a shard that is not led here, or not any more.
var errNotLeading = &apiError{codeNotLeading, "this coordinator does not lead the shard"}

// askPause is between two attempts to find a shard's leader.
const askPause = 50 * time.Millisecond

// askShard has a shard's leader answer: here if it is led here, else wherever it is. While it has none it waits for one.
func askShard[Request, Response any](ctx context.Context, c *Coordinator, shard int, name string, request *Request,
	here shardAnswer[Request, Response]) (*Response, error) {
	l := c.leaders[shard]
	for {
		var response *Response
		var err error
		if l.leads.Load() {
			response, err = here(l, ctx, request)
		} else {
			response, err = askOther[Response](ctx, c.nc, shardSubject(c.cfg.Prefix, shard, name), request)
		}
		if !errors.Is(err, errNotLeading) {
			return response, err
		}
		wait(ctx, askPause)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("shard %d has no leader at the moment: %w", shard, ctx.Err())
		}
	}
}

// askOther asks another coordinator.
func askOther[Response any](ctx context.Context, nc *nats.Conn, subject string, request any) (*Response, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	msg, err := nc.RequestWithContext(ctx, subject, body)
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, errNotLeading
	}
	if err != nil {
		return nil, fmt.Errorf("the shard's leader: %w", err)
	}
	switch code := msg.Header.Get(micro.ErrorCodeHeader); code {
	case "":
	case codeNotLeading:
		return nil, errNotLeading
	default:
		return nil, &apiError{code, msg.Header.Get(micro.ErrorHeader)}
	}
	response := new(Response)
	return response, json.Unmarshal(msg.Data, response)
}

// answerShard answers what another coordinator asks the leader of a shard. It does not wait for a free worker of the API's, who
// may be waiting for us.
func (c *Coordinator) answerShard(ctx context.Context, l *leader, msg *nats.Msg) {
	name, _ := strings.CutPrefix(msg.Subject, shardSubject(c.cfg.Prefix, l.shard, ""))
	handle := c.shardHandlers[name]
	if handle == nil {
		return
	}
	c.shardWorkers <- struct{}{}
	go func() {
		defer func() { <-c.shardWorkers }()
		ctx, cancel := context.WithTimeout(ctx, apiTimeout) // and no longer than the leadership
		defer cancel()
		response, err := handle(ctx, l, msg.Data)
		c.reply(msg.Reply, msg.Subject, response, err)
	}()
}

// whileLeading runs f in the goroutine of a shard's leader, if it leads.
func (l *leader) whileLeading(ctx context.Context, f func()) error {
	led := false
	err := l.inLeader(ctx, func() {
		if led = l.leading; led {
			f()
		}
	})
	if err == nil && !led {
		return errNotLeading
	}
	return err
}
