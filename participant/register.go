// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
)

// The pace of registering while no coordinator answers.
const (
	registerPatience = 5 * time.Second
	registerPause    = 100 * time.Millisecond
	registerMaxPause = 5 * time.Second
)

// register makes the participant known and learns where its prepares are. It goes on until a coordinator answers, ctx ends, or
// it is refused for good.
func (p *Participant) register(ctx context.Context) ([]messages.ShardInfo, error) {
	request, err := json.Marshal(messages.RegisterRequest{Name: p.cfg.Name, Instance: p.instance})
	if err != nil {
		return nil, err
	}
	pause := registerPause
	var early time.Time // since when a log has ended too early
	for warned := false; ; warned = true {
		shards, err := p.tryRegister(ctx, request)
		early = sinceEarly(early, err)
		doubtful := !early.IsZero() && time.Since(early) < streams.ShortPatience
		if err == nil || errors.Is(err, ErrLogLost) && !doubtful || errors.Is(err, errRegistrationRefused) {
			return shards, err
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if p.nc.IsClosed() {
			return nil, fmt.Errorf("participant %s: %w", p.cfg.Name, nats.ErrConnectionClosed)
		}
		if !warned && !doubtful {
			p.log.WithError(err).Warn("no coordinator has taken the registration yet; trying on")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, registerMaxPause)
	}
}

// sinceEarly is since when the answers have said that a log ends too early. That there is no answer says nothing.
func sinceEarly(since time.Time, err error) time.Time {
	switch early := (endsEarly{}); {
	case err == nil:
		return time.Time{}
	case since.IsZero() && errors.As(err, &early):
		return time.Now()
	default:
		return since
	}
}

var errRegistrationRefused = errors.New("the coordinator refuses the registration")

func (p *Participant) tryRegister(ctx context.Context, request []byte) ([]messages.ShardInfo, error) {
	before := p.marks.sequences()
	asked, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	msg, err := p.nc.RequestWithContext(asked, p.subjects.API("register"), request)
	if err != nil {
		return nil, err
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		err := errors.New(msg.Header.Get(micro.ErrorHeader))
		if code == "400" {
			return nil, fmt.Errorf("participant %s: %w: %w", p.cfg.Name, errRegistrationRefused, err)
		}
		return nil, err
	}
	var response messages.RegisterResponse
	if err := json.Unmarshal(msg.Data, &response); err != nil {
		return nil, fmt.Errorf("the registration's answer: %w", err)
	}
	if len(response.Shards) == 0 {
		return nil, errors.New("the registration's answer names no shards")
	}
	return response.Shards, p.marks.check(ctx, p, response.Shards, before)
}
