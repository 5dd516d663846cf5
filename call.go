// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/messages"
)

// call is somebody who waits for an answer about one transaction. mu of the client guards it.
type call struct {
	kind     callKind
	subject  string
	record   []byte
	attempts int
	askAt    time.Time // when it is asked again
	lastErr  error
	done     chan struct{}
	answer   messages.Answer
	err      error
	ended    bool
}

type callKind uint8

const (
	submits  callKind = iota // a transaction
	waits                    // asks for an outcome, when there is one
	glimpses                 // asks for what is known now
)

// end settles the call, once. An answer is copied.
func (c *call) end(answer *messages.Answer, err error) {
	if c.ended {
		return
	}
	c.ended = true
	if answer != nil {
		c.answer = *answer
	}
	c.err = err
	close(c.done)
}

// The pace of asking again. An answer that is lost with a connection or a coordinator is asked for at once when the
// connection is back; these are for the rest.
const (
	askAgain    = 2 * time.Second
	askAgainMax = 10 * time.Second
	// hurry is the pause when a coordinator is missing or says try again; it doubles, up to askAgain, or up to hurryMax while none is
	// there: another one is about to take over, and a question that meets nobody costs next to nothing.
	hurry    = 25 * time.Millisecond
	hurryMax = 250 * time.Millisecond
	// look is how often the calls are looked at.
	look = 25 * time.Millisecond
)

// call sends a record about a transaction to its shard until it is answered. The same record may be handled twice: it is
// about the same id.
func (c *Client) call(ctx context.Context, kind callKind, id ID, record []byte, patience time.Duration) (messages.Answer, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	if ctx.Err() != nil {
		return messages.Answer{}, nothingSubmitted(ctx)
	}
	shards, err := c.countShards(ctx)
	if err != nil {
		return messages.Answer{}, err
	}
	subject := c.subjects.Wait(id.Shard(shards))
	if kind == submits {
		subject = c.subjects.Submit(id.Shard(shards))
	}
	waiting := &call{
		kind: kind, subject: subject, record: record, attempts: 1,
		askAt: time.Now().Add(jitter(askAgain)), done: make(chan struct{}),
	}
	if err := c.enter(id, waiting); err != nil {
		return messages.Answer{}, err
	}
	defer c.leave(id, waiting)
	if err := c.submits.Append(ctx, waiting.subject, record, struct{}{}); err != nil {
		return messages.Answer{}, &UnknownError{Tx: id, Err: err}
	}
	select {
	case <-waiting.done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting.end(nil, context.Cause(ctx)) // unless it has ended
	if waiting.err != nil {
		return messages.Answer{}, &UnknownError{Tx: id, Err: errors.Join(waiting.err, waiting.lastErr)}
	}
	return waiting.answer, nil
}

// nothingSubmitted is the error of a call whose context has ended before it began.
func nothingSubmitted(ctx context.Context) error {
	return fmt.Errorf("assent: nothing was submitted: %w", context.Cause(ctx))
}

// errDisconnected is for what is asked on a connection that is closed for good.
var errDisconnected = fmt.Errorf("%w: %w", ErrNoCoordinator, nats.ErrConnectionClosed)

func (c *Client) enter(id ID, waiting *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	if c.nc.IsClosed() {
		return errDisconnected
	}
	c.calls[id] = append(c.calls[id], waiting)
	return nil
}

func (c *Client) leave(id ID, waiting *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls[id]
	for i := range calls {
		if calls[i] == waiting {
			calls = append(calls[:i], calls[i+1:]...)
			break
		}
	}
	if len(calls) == 0 {
		delete(c.calls, id)
	} else {
		c.calls[id] = calls
	}
}

// send is the Send of the client's group commit: a message of submissions or waits, to be answered to the inbox.
func (c *Client) send(_ context.Context, subject string, body []byte) (uint64, error) {
	// What cannot be sent now is asked again.
	return 0, c.nc.PublishRequest(subject, c.inbox, body)
}

// onAnswers takes a message of answers.
func (c *Client) onAnswers(msg *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(msg.Data) == 0 {
		c.nobody()
		return
	}
	for line := range messages.Lines(msg.Data) {
		var answer messages.Answer
		if err := c.decoder.Answer(line, &answer); err != nil {
			c.log.WithError(err).Warn("an answer could not be read")
			continue
		}
		for _, waiting := range c.calls[answer.Tx] {
			waiting.take(&answer)
		}
	}
}

// take settles the call with an answer, unless it has to be asked again. Calls of different kinds may wait for one
// transaction: an outcome settles all, an error only those that it answers.
func (c *call) take(answer *messages.Answer) {
	switch answer.Error {
	case "":
		c.end(answer, nil)
	case messages.CodeUndecided:
		if c.kind == glimpses {
			c.end(answer, nil)
		}
	case messages.CodeNotFound:
		if c.kind != submits {
			c.end(answer, nil)
		}
	case messages.CodeTryAgain:
		c.again(fmt.Errorf("the coordinator says: %s", answer.Message), askAgain)
	case messages.CodeOverloaded, messages.CodeUnknownParticipant:
		if c.kind != submits {
			return
		}
		if c.attempts > 1 { // an earlier attempt may have been accepted: this is no proof that it was not
			c.again(refusal(answer), askAgain)
			return
		}
		c.end(answer, nil)
	default:
		if c.kind == submits {
			c.end(answer, nil)
		}
	}
}

// again has the call asked again, soon, and after most at the latest.
func (c *call) again(why error, most time.Duration) {
	c.lastErr = why
	pause := min(hurry<<min(c.attempts-1, 10), most)
	if at := time.Now().Add(jitter(pause)); at.Before(c.askAt) {
		c.askAt = at
	}
}

// nobody hears that a message met no coordinator. It does not say which message, so all calls are asked again.
func (c *Client) nobody() {
	for _, calls := range c.calls {
		for _, waiting := range calls {
			waiting.again(ErrNoCoordinator, hurryMax)
		}
	}
}

// keepAsking asks again for what has not been answered.
func (c *Client) keepAsking(ctx context.Context) {
	defer close(c.stopped)
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case status := <-c.status:
			if status == nats.CLOSED {
				c.endAll(nats.ErrConnectionClosed)
				continue
			}
			// Back after a disconnection: what was asked or answered meanwhile is lost.
			c.askDue(ctx, time.Now().Add(askAgainMax*2))
		case now := <-ticker.C:
			c.askDue(ctx, now)
		}
	}
}

// endAll ends everybody's waiting.
func (c *Client) endAll(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, calls := range c.calls {
		for _, waiting := range calls {
			waiting.end(nil, why)
		}
	}
}

func (c *Client) askDue(ctx context.Context, now time.Time) {
	var due []*call
	c.mu.Lock()
	for _, calls := range c.calls {
		for _, waiting := range calls {
			if !waiting.ended && !waiting.askAt.After(now) {
				waiting.askAt = time.Now().Add(jitter(min(askAgain<<min(waiting.attempts, 10), askAgainMax)))
				waiting.attempts++
				due = append(due, waiting)
			}
		}
	}
	c.mu.Unlock()
	for _, waiting := range due {
		if c.submits.Append(ctx, waiting.subject, waiting.record, struct{}{}) != nil {
			return // the client is closing
		}
	}
}

// jitter spreads a pause over 75 to 125 per cent of it.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2)
}

// countShards asks a coordinator once how many shards there are; the number never changes.
func (c *Client) countShards(ctx context.Context) (int, error) {
	c.mu.Lock()
	shards, closed := c.shards, c.closed
	c.mu.Unlock()
	if closed {
		return 0, ErrClosed
	}
	pause := hurry
	for shards == 0 {
		info, err := c.info(ctx)
		if err == nil {
			shards = info
			break
		}
		if c.nc.IsClosed() {
			return 0, errDisconnected
		}
		select {
		case <-ctx.Done(): // nothing was submitted: this is no unknown outcome
			return 0, fmt.Errorf("%w on %s: start one with `assent serve`, or give its Prefix: %w", ErrNoCoordinator, c.subjects.API("info"), err)
		case <-c.closing:
			return 0, ErrClosed
		case <-time.After(jitter(pause)):
			pause = min(2*pause, hurryMax)
		}
	}
	c.mu.Lock()
	c.shards = shards
	c.mu.Unlock()
	return shards, nil
}

func (c *Client) info(ctx context.Context) (shards int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.subjects.API("info"), nil)
	if err != nil {
		return 0, err
	}
	var info struct {
		Shards int `json:"shards"`
	}
	if err := json.Unmarshal(msg.Data, &info); err != nil || info.Shards < 1 {
		return 0, fmt.Errorf("the coordinator's answer names no shards: %.200q", msg.Data)
	}
	return info.Shards, nil
}
