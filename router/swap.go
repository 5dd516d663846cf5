// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a compare-and-swap may come to, other than nil.
var (
	errConflict = fmt.Errorf("%w: somebody else wrote it", ErrConflict) // what was to be written is not stored
	errUnknown  = fmt.Errorf("not acknowledged: %w", ErrUnknown)        // it may be stored, or be stored yet
)

// A write carries an id of its own, and the ids of the writes before it, in the header Assent-Writes: by them whoever got no
// answer finds out what came of its write, also when others have written since. The last maxWrites are kept.
const (
	writesHeader = "Assent-Writes"
	maxWrites    = 16
)

// The codes with which JetStream refuses a write for its revision. The second comes from a replicated stream that has
// another write under way on the subject: it proves nothing about what is stored.
const (
	codeWrongSequence    = 10071
	codeSequenceUnproven = 10164
)

// lostReads is how often what was read before must be missing until that is believed: a server that was deposed may not
// have it yet.
const lostReads = 4

// swap stores a message in the place of what is known to be stored there (a zero raw: nothing), and gives what is stored
// afterwards: the message, or what others have made of it since. It goes on until it knows what came of it: the
// error is errConflict, a refusal for good, or errUnknown when ctx or its patience is over first.
func (s *store) swap(ctx context.Context, subject string, msg *nats.Msg, before raw) (raw, error) {
	w := write{id: newWriteID(), before: before}
	msg.Subject = subject
	if msg.Header == nil {
		msg.Header = nats.Header{}
	}
	writes := append([]string{w.id}, before.writes...)
	msg.Header.Set(writesHeader, strings.Join(writes[:min(len(writes), maxWrites)], " "))
	var after raw
	err := persist(ctx, func(ctx context.Context) (err error) {
		after, err = s.attempt(ctx, msg, &w)
		return err
	})
	return after, err
}

func newWriteID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails: it ends the program
	return hex.EncodeToString(b[:])
}

// write is one write, however often it is sent.
type write struct {
	id      string
	before  raw
	unclear bool // it was sent and not answered: it may be stored
	missing int  // reads in a row that did not find what was there before
}

// attempt sends a write once. If it is refused, and was sent before without an answer, what is stored says what came of it.
func (s *store) attempt(ctx context.Context, msg *nats.Msg, w *write) (raw, error) {
	ack, err := s.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(w.before.revision), jetstream.WithRetryAttempts(0))
	if err == nil {
		return rawOf(ack.Sequence, msg.Header, msg.Data), nil
	}
	var refusal *jetstream.APIError
	answered := errors.As(err, &refusal)
	switch {
	case answered && refusal.ErrorCode == codeWrongSequence && !w.unclear:
		return raw{}, errConflict
	case answered && (refusal.ErrorCode == codeWrongSequence || refusal.ErrorCode == codeSequenceUnproven):
		now, err := s.last(ctx, msg.Subject)
		if err != nil {
			return raw{}, fmt.Errorf("%w: %w", errUnknown, err)
		}
		return now, w.settle(now)
	case answered && (refusal.Code < 500 || noRoom(refusal)), errors.Is(err, nats.ErrMaxPayload):
		return raw{}, fmt.Errorf("stream %s: %w", s.names.stream(), err)
	default: // it is sent again: if it was stored, it is refused then, and found
		w.unclear = true
		return raw{}, fmt.Errorf("%w: stream %s: %w", errUnknown, s.names.stream(), err)
	}
}

// settle tells what came of a write that was refused for its revision, by what is stored now: nil when it was stored.
func (w *write) settle(now raw) error {
	switch {
	case slices.Contains(now.writes, w.id):
		return nil
	case now.revision == 0 && w.before.revision > 0:
		if w.missing++; w.missing >= lostReads {
			return errConflict
		}
		return fmt.Errorf("%w: what was there is missing", errUnknown)
	case now.revision <= w.before.revision: // the server has a write under way, or was deposed
		return fmt.Errorf("%w: the stream has another write under way", errUnknown)
	case w.before.knows(now):
		return errConflict
	default:
		return fmt.Errorf("%w: others have written since, too often or without saying so", ErrUnknown)
	}
}

// knows tells whether all writes between a version and a later one are known by their ids.
func (r raw) knows(later raw) bool {
	if len(r.writes) == 0 {
		return len(later.writes) > 0 && len(later.writes) < maxWrites
	}
	return slices.Contains(later.writes, r.writes[0])
}

// noRoom tells whether a refusal is for want of room.
func noRoom(refusal *jetstream.APIError) bool {
	switch refusal.ErrorCode {
	case 10077, 10023, 10028, 10047: // maximum exceeded, insufficient resources, storage exceeded, insufficient storage
		return true
	default:
		return false
	}
}
