// SPDX-License-Identifier: Apache-2.0

package assent

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tx/assent/messages"
)

// chain is the attempts of one transaction. An attempt that a participant refused because a key had moved was executed by
// nobody, and is tried again under the next id (ID.Next); so whoever has the first id finds the last attempt.
type chain struct {
	first, last ID
	// moved is the answer about the attempt before last; its zero value if last is first.
	moved messages.Answer
}

// met tells whether an attempt of the chain met a move.
func (c *chain) met() bool { return c.moved.WrongOwner != 0 }

// next goes on to the attempt after one that met a move.
func (c *chain) next(answer *messages.Answer) {
	c.moved, c.last = *answer, c.last.Next()
}

// submittable is how long after the time of its id a transaction may be submitted: coordinators take ids for 60 s, and
// their clocks may be behind by 10 s.
const submittable = 70 * time.Second

// over tells whether the last attempt, if nobody has submitted it yet, cannot be submitted any more.
func (c *chain) over() bool { return time.Since(c.last.Time()) > submittable }

// isMove tells whether an answer is about an attempt that met a move.
func isMove(answer *messages.Answer) bool {
	return answer.Outcome == Aborted && answer.WrongOwner != 0
}

// follow asks for the outcome of a transaction, from attempt to attempt. The answer is that about the last one, or, if
// that was never submitted and cannot be any more, about the one before, which met a move. While it may still be submitted
// a call that waits goes on asking, and one that asks for what is known now is told that it is undecided.
func (c *Client) follow(ctx context.Context, kind callKind, at *chain) (messages.Answer, error) {
	pause := hurry
	for {
		over := at.over() // before it is asked about: it may be submitted between the two
		record := messages.AppendWait(nil, &messages.Wait{Tx: at.last, Now: kind == glimpses})
		answer, err := c.call(ctx, kind, at.last, record, c.cfg.Patience)
		switch {
		case err != nil:
			return messages.Answer{}, at.unknown(err)
		case isMove(&answer):
			at.next(&answer)
			pause = hurry
		case answer.Error != messages.CodeNotFound || !at.met():
			return answer, nil
		case over:
			return at.moved, nil
		case kind == glimpses:
			return messages.Answer{Tx: at.last, Error: messages.CodeUndecided}, nil
		default:
			if err := c.rest(ctx, pause); err != nil {
				return messages.Answer{}, at.unknown(err)
			}
			pause = min(2*pause, restMax)
		}
	}
}

// unknown is the error of a call about the last attempt. The caller knows the transaction by its first id.
func (c *chain) unknown(err error) error {
	var unknown *UnknownError
	switch {
	case errors.As(err, &unknown):
		return &UnknownError{Tx: c.first, Err: unknown.Err}
	case c.met(): // the last attempt was not submitted here
		return &UnknownError{Tx: c.first, Err: errors.Join(ErrMoved, err)}
	default:
		return err
	}
}

// restMax bounds the pause before something is looked at again that may change without a word.
const restMax = time.Second

// rest waits for a pause; the error is why it was cut short.
func (c *Client) rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(jitter(pause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.closing:
		return ErrClosed
	}
}

// within gives a context that ends after patience, unless it has a deadline already.
func within(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}
