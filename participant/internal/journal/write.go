// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// write is a record that waits to be written.
type write struct {
	record
	done chan error // gets one value
}

// write writes records and waits until all are stored.
func (j *Journal) write(ctx context.Context, writes []*write) error {
	if err := j.Err(); err != nil {
		return err
	}
	if len(writes) > 1 {
		j.writes.Hold()
	}
	var failed error
	given := 0
	for _, w := range writes {
		w.done = make(chan error, 1)
		line := appendRecord(make([]byte, 0, recordOverhead+len(w.data)), &w.record)
		if failed = j.writes.Append(ctx, j.subject, line, w); failed != nil {
			break
		}
		given++
	}
	if len(writes) > 1 {
		j.writes.Release()
	}
	for _, w := range writes[:given] {
		select {
		case err := <-w.done:
			failed = errors.Join(failed, err)
		case <-ctx.Done():
			return fmt.Errorf("journal: whether it was written is not known: %w", ctx.Err())
		}
	}
	if failed != nil {
		if err := j.Err(); err != nil {
			return err
		}
		return fmt.Errorf("journal: %w", failed)
	}
	return nil
}

// send is the batcher's: it brings one message to the stream. Before it, what stands far back is written again, in a message of its
// own: here the state is that of the newest message, so that nothing which is settled can be opened again.
func (j *Journal) send(ctx context.Context, _ string, body []byte) (uint64, error) {
	if err := j.Err(); err != nil {
		return 0, err
	}
	if err := j.moveUp(ctx); err != nil {
		return 0, j.failed(err)
	}
	sequence, err := j.put(ctx, body)
	return sequence, j.failed(err)
}

// failed ends the journal when an error says that it cannot go on.
func (j *Journal) failed(err error) error {
	for _, fatal := range []error{ErrSuperseded, ErrDamaged, ErrLost, ErrNewer} {
		if errors.Is(err, fatal) {
			j.die(fmt.Errorf("journal: %w", err))
		}
	}
	return err
}

// moveUp writes again what stands far back, and has what stands before everything that is needed removed.
func (j *Journal) moveUp(ctx context.Context) error {
	j.mu.Lock()
	records := j.state.moves(j.cfg.span, j.maxBody-recordOverhead, j.now())
	j.mu.Unlock()
	if len(records) > 0 {
		var body []byte
		for i := range records {
			body = append(appendRecord(body, &records[i]), '\n')
		}
		sequence, err := j.put(ctx, body)
		if err != nil {
			return err
		}
		j.mu.Lock()
		for i := range records {
			j.state.apply(sequence, &records[i], j.now())
		}
		j.mu.Unlock()
	}
	j.mu.Lock()
	low := j.state.trimTo(j.now()) // the floor is written now
	j.mu.Unlock()
	j.trim(ctx, low)
	return nil
}

// settled hears from the batcher what became of a message, before the next one is sent.
func (j *Journal) settled(_ string, writes []*write, sequence uint64, err error) {
	if err == nil {
		j.mu.Lock()
		now := j.now()
		for _, w := range writes {
			j.state.apply(sequence, &w.record, now)
		}
		j.mu.Unlock()
	}
	for _, w := range writes {
		w.done <- err
	}
}

// The pauses after an attempt to write that failed.
const (
	putPause = 10 * time.Millisecond
	maxPause = 500 * time.Millisecond
)

// put writes a message right after the newest one that is known, and gives its sequence.
//
// An attempt without an answer may have been stored, now or later: the place after the newest message tells. As long as there is
// nothing, the same message is sent again; of all attempts at most one can stand there, and while one may come, no other
// message is tried. So put ends only with the message's fate, with ErrSuperseded (somebody else's message stands there), or
// with the context; a refusal is believed only if no attempt before it is open.
func (j *Journal) put(ctx context.Context, body []byte) (uint64, error) {
	j.mu.Lock()
	base := j.state.last
	j.mu.Unlock()
	unknown := false
	for wait := putPause; ; wait = min(2*wait, maxPause) {
		sequence, err := j.attempt(ctx, base, body)
		if err == nil && sequence == base+1 {
			return sequence, nil
		}
		if err != nil && !unknown && isRefusal(err) && !isConflict(err) {
			return 0, err
		}
		unknown = true
		if looked := j.look(ctx, base, isConflict(err)); !errors.Is(looked, errNone) {
			if looked == nil {
				return base + 1, nil
			}
			if ctx.Err() == nil {
				return 0, looked
			}
		}
		if !streams.Pause(ctx, wait) {
			return 0, fmt.Errorf("whether it was written is not known: %w", errors.Join(err, ctx.Err()))
		}
		if err := j.Err(); err != nil {
			return 0, err
		}
	}
}

// attempt publishes once.
func (j *Journal) attempt(ctx context.Context, base uint64, body []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, j.cfg.patience)
	defer cancel()
	ack, err := j.js.PublishMsg(ctx, &nats.Msg{Subject: j.subject, Data: body, Header: nats.Header{
		headerName:                      {origin{j.instance, base}.String()},
		jetstream.ExpectedLastSeqHeader: {strconv.FormatUint(base, 10)},
	}}, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// look tells what stands right after a sequence: nil when it is this instance's message, errNone when there is nothing (or that
// cannot be told now); any other error says why this instance cannot write there any more.
func (j *Journal) look(ctx context.Context, base uint64, conflict bool) error {
	ctx, cancel := context.WithTimeout(ctx, streams.AttemptTime)
	defer cancel()
	m, err := j.get(ctx, base+1, true)
	switch {
	case errors.Is(err, errNone) && conflict:
		return j.lookAtEnd(ctx, base)
	case errors.Is(err, ErrDamaged):
		return err
	case err != nil:
		return errNone
	}
	o, err := parseOrigin(m.header)
	switch {
	case err != nil:
		return j.at(m.sequence, err)
	case o == origin{j.instance, base} && m.sequence == base+1:
		return nil
	case o.instance == j.instance:
		return j.at(m.sequence, fmt.Errorf("%w: what this instance wrote after %d is not where it was written", ErrDamaged, base))
	default:
		return fmt.Errorf("%w: instance %s has written sequence %d of stream %s: one instance of a participant runs at a time, and the "+
			"newest goes on", ErrSuperseded, o.instance, m.sequence, j.name)
	}
}

// lookAtEnd tells why there is nothing after a sequence although the server said that it is not the last one.
func (j *Journal) lookAtEnd(ctx context.Context, base uint64) error {
	info, err := j.stream.Info(ctx)
	switch {
	case err != nil:
		return errNone
	case info.State.LastSeq < base:
		return fmt.Errorf("%w: stream %s ends at %d, and %d was acknowledged: what was prepared is gone; compare the stores by hand",
			ErrLost, j.name, info.State.LastSeq, base)
	case info.State.FirstSeq > base+1:
		return fmt.Errorf("%w: stream %s begins at %d: somebody has trimmed what comes after %d", ErrSuperseded, j.name, info.State.FirstSeq, base)
	default:
		return errNone // a write is under way
	}
}

// isRefusal tells whether the message is known not to be stored: the server said so, nobody took it, or it was never sent.
func isRefusal(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, jetstream.ErrNoStreamResponse) ||
		errors.Is(err, nats.ErrNoResponders)
}

// isConflict tells whether the server refused a message since another one is the last, or on its way.
func isConflict(err error) bool {
	var refusal *jetstream.APIError
	return errors.As(err, &refusal) && (refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// trim removes what comes before a sequence, in the background and one after the other. An instance that was superseded may do it
// still, without harm: what it takes to be over is over.
func (j *Journal) trim(ctx context.Context, low uint64) {
	if low < j.trimmed+j.cfg.trim {
		return
	}
	select {
	case j.purging <- struct{}{}:
	default:
		return
	}
	j.trimmed = low
	j.trimming.Go(func() {
		defer func() { <-j.purging }()
		ctx, cancel := context.WithTimeout(ctx, streams.AttemptTime)
		defer cancel()
		if err := j.stream.Purge(ctx, jetstream.WithPurgeSequence(low)); err != nil {
			j.log.WithError(err).Debug("the journal was not trimmed; it is tried again later")
		}
	})
}
