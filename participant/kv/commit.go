// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Commit implements participant.Handler: it writes the values, all at once, and then settles the branch in the journal. It may be
// called again after any crash, and by an instance that was superseded: see apply.
func (s *store) Commit(ctx context.Context, tx messages.ID) error {
	e, open := s.Entry(tx)
	if !open { // settled before, or never prepared; the journal proves that it is not another instance's
		return s.Settle(ctx, participant.Outcome{Tx: tx, Commit: true})
	}
	b, err := decode(e)
	if err != nil {
		return err
	}
	over, err := s.write(ctx, tx, b.Writes)
	if err != nil {
		s.counts.failed.Add(1)
		return fmt.Errorf("kv: a committed transaction is not applied yet: %w", err)
	}
	crash.Here("kv.applied")
	if err := s.Settle(ctx, participant.Outcome{Tx: tx, Commit: true}); err != nil {
		return err
	}
	crash.Here("kv.settled")
	s.counts.applied.Add(1)
	for i, by := range over {
		if by != nil {
			s.overtaken(tx, &b.Writes[i], by) // now, since an attempt that fails for another key finds it again
		}
	}
	return nil
}

// write puts all values in their places: each is sent once, all at once, and those whose acknowledgement does not come are applied by themselves.
// It gives for each what stands in its place, as apply does, or nil when there is none of that.
func (s *store) write(ctx context.Context, tx messages.ID, writes []write) (over []*found, err error) {
	batch := s.requests.begin(len(writes), attemptTime)
	for i := range writes {
		batch.send(ctx, writes[i].message(tx, writes[i].Base))
		crash.Here("kv.written")
	}
	var rest []int
	for i, answer := range batch.wait(ctx) {
		if answer == nil || !acknowledged(answer.Data, writes[i].Bucket) {
			rest = append(rest, i)
		}
	}
	if len(rest) == 0 {
		return nil, nil
	}
	over = make([]*found, len(writes))
	err = s.each(len(rest), func(n int) (err error) {
		over[rest[n]], err = s.apply(ctx, tx, &writes[rest[n]])
		return err
	})
	return over, err
}

// acknowledged tells whether a stream has stored a message: {"stream":"KV_stock","seq":17}, perhaps with more fields, but without an error.
func acknowledged(answer []byte, bucket string) bool {
	rest, ok := bytes.CutPrefix(answer, acknowledgementBegins)
	return ok && isName(rest, bucket) && !bytes.Contains(rest, errorField)
}

var (
	acknowledgementBegins = []byte(`{"stream":"KV_`)
	errorField            = []byte(`"error"`)
)

// attemptTime is how long one attempt to write waits for its acknowledgement.
const attemptTime = 3 * time.Second

// apply puts a value in the place of the revision that was there at prepare, once, whoever has tried before: a compare-and-swap
// on that revision, with the transaction's id in a header. When it fails the key's last record tells:
//
//	written by this transaction   It is applied.
//	still the revision at prepare  The write that is in the way was not stored (yet): again.
//	nothing, or a marker of expiry  What was there has run out, or was purged: the value takes the place of that.
//	anything else                  It was written after the value at prepare was read, so it comes after this transaction in every order in which
//	                               this transaction can stand: it stays. By the locks another transaction of ours can
//	                               have written it only after this one was applied. A foreign writer may have come before that;
//	                               then nobody ever sees the value, as if it had been overwritten at once. It is what apply gives.
func (s *store) apply(ctx context.Context, tx messages.ID, w *write) (over *found, err error) {
	base := w.Base
	for attempt := 0; ; attempt++ {
		err := s.publish(ctx, tx, w, base)
		if err == nil {
			return nil, nil
		}
		if refused(err) {
			return nil, err
		}
		now, lookErr := last(ctx, s.nc, w.ref())
		switch {
		case lookErr != nil:
			return nil, errors.Join(err, lookErr)
		case now.tx == tx:
			return nil, nil
		case now.nothing() && now.revision != base:
			// Only the journal's writer may do this: of what another instance has written there since, nothing would be left to see.
			if err := s.Prove(ctx); err != nil {
				return nil, err
			}
			base = now.revision
		case now.revision == w.Base || now.revision == base:
			if !pause(ctx, attempt) {
				return nil, fmt.Errorf("key %s: %w", w.ref(), errors.Join(err, ctx.Err()))
			}
		default:
			return &now, nil
		}
	}
}

// overtaken notes that a key has a value that came after this transaction's.
func (s *store) overtaken(tx messages.ID, w *write, now *found) {
	log := s.log.WithField("tx", tx).WithField("bucket", w.Bucket).WithField("key", w.Key).WithField("revision", now.revision)
	if !now.tx.IsZero() {
		log.WithField("by", now.tx).Debug("a later transaction has written the key already")
		return
	}
	s.counts.overtaken.Add(1)
	log.Warn("a writer that is no transaction has written the key since it was prepared; its value stays: write keys that transactions use only by transactions")
}

// publish tries once.
func (s *store) publish(ctx context.Context, tx messages.ID, w *write, base uint64) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	if _, err := s.js.PublishMsg(ctx, w.message(tx, base), jetstream.WithRetryAttempts(0)); err != nil {
		return fmt.Errorf("key %s: %w", w.ref(), err)
	}
	return nil
}

// message is the compare-and-swap on a revision.
func (w *write) message(tx messages.ID, base uint64) *nats.Msg {
	header := nats.Header{TxHeader: {tx.String()}, jetstream.ExpectedLastSubjSeqHeader: {strconv.FormatUint(base, 10)}}
	if w.Delete {
		header[operationHeader] = []string{deleted}
	}
	return &nats.Msg{Subject: w.ref().subject(), Header: header, Data: w.Value}
}

// refused tells whether an error proves that nothing was stored, and is no conflict: to be tried again later, whatever the key has.
func refused(err error) bool {
	var refusal *jetstream.APIError
	if errors.As(err, &refusal) {
		return refusal.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence && refusal.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant
	}
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrMaxPayload)
}

// pause waits, longer the more attempts there were; false when ctx ended meanwhile.
func pause(ctx context.Context, attempt int) bool {
	timer := time.NewTimer(time.Millisecond << min(attempt, 8))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
