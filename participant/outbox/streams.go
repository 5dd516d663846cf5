// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	patient "github.com/assent-tx/assent/internal/streams" // this package has streams of its own
	"github.com/assent-tx/assent/participant"
)

// streams are what is known of the streams that take messages. What is older than fresh is asked for again.
type streams struct {
	js jetstream.JetStream

	mu    sync.Mutex
	known map[string]*stream
}

// stream is a stream as it was a moment ago.
type stream struct {
	*jetstream.StreamInfo
	read time.Time
}

const (
	// fresh is how long what a stream said of itself is believed by Prepare: it saves a request for each branch.
	fresh = time.Second
	// maxKnown bounds the streams that are remembered.
	maxKnown = 1024
)

// errNoStream is why a message cannot be promised.
var errNoStream = errors.New("no stream takes it")

// of gives the stream that takes a subject.
func (s *streams) of(ctx context.Context, subject string) (*stream, error) {
	if known := s.find(subject); known != nil {
		return known, nil
	}
	var name string
	err := patient.Persist(ctx, func(ctx context.Context) (err error) {
		name, err = s.js.StreamNameBySubject(ctx, subject)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errNoStream
	}
	if err != nil {
		return nil, fmt.Errorf("which stream takes %s: %w", subject, err)
	}
	return s.look(ctx, name)
}

// named gives a stream by its name.
func (s *streams) named(ctx context.Context, name string) (*stream, error) {
	s.mu.Lock()
	known := s.known[name]
	s.mu.Unlock()
	if known != nil && time.Since(known.read) < fresh {
		return known, nil
	}
	return s.look(ctx, name)
}

func (s *streams) find(subject string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, known := range s.known {
		if time.Since(known.read) < fresh && known.takes(subject) {
			return known
		}
	}
	return nil
}

// look asks a stream what it is like now.
func (s *streams) look(ctx context.Context, name string) (*stream, error) {
	var read time.Time
	var handle jetstream.Stream
	err := patient.Persist(ctx, func(ctx context.Context) (err error) {
		read = time.Now()
		handle, err = s.js.Stream(ctx, name)
		return err
	})
	if err != nil {
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil, errNoStream
		}
		return nil, fmt.Errorf("stream %s: %w", name, err)
	}
	now := &stream{handle.CachedInfo(), read}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[name] = now
	return now, nil
}

// takes tells whether a subject is one of the stream's.
func (s *stream) takes(subject string) bool {
	for _, filter := range s.Config.Subjects {
		if matches(filter, subject) {
			return true
		}
	}
	return false
}

// matches tells whether a subject is one of those of a filter, which may have wildcards.
func matches(filter, subject string) bool {
	for {
		want, filters, moreFilter := strings.Cut(filter, ".")
		token, rest, more := strings.Cut(subject, ".")
		switch {
		case want == ">":
			return true
		case want != "*" && want != token:
			return false
		case !more || !moreFilter:
			return more == moreFilter
		}
		filter, subject = filters, rest
	}
}

// check says whether a stream would take a message now. Its errors are refusals: after a yes the message would have to wait, perhaps
// for ever.
func (s *streams) check(ctx context.Context, st *stream, m *Message, msg *nats.Msg) (*stream, error) {
	if fault := st.refuses(m, msg); fault != "" {
		return nil, participant.Refuse(fmt.Errorf("stream %s %s", st.Config.Name, fault))
	}
	if st.full(msg) == "" && !st.Config.DiscardNewPerSubject {
		return st, nil
	}
	st, err := s.look(ctx, st.Config.Name) // it may have room by now
	if err != nil {
		return nil, err
	}
	fault := st.full(msg)
	if fault == "" && st.Config.DiscardNewPerSubject {
		if fault, err = s.fullOf(ctx, st, m.Subject); err != nil {
			return nil, err
		}
	}
	if fault != "" {
		return nil, participant.Refuse(fmt.Errorf("stream %s is full: %s", st.Config.Name, fault))
	}
	return st, nil
}

// refuses says why a stream would never take a message, "" if it would.
func (s *stream) refuses(m *Message, msg *nats.Msg) (fault string) {
	_, total := size(msg)
	switch cfg := &s.Config; {
	case m.Stream != "" && m.Stream != cfg.Name:
		return fmt.Sprintf("takes the subject, and not %s, which is expected", m.Stream)
	case cfg.Sealed:
		return "is sealed"
	case cfg.NoAck:
		return "acknowledges nothing (no_ack), so that nobody can know whether it has a message"
	case cfg.MaxMsgSize >= 0 && int64(total) > int64(cfg.MaxMsgSize) && cfg.MaxMsgSize != 0:
		return fmt.Sprintf("takes messages of at most %d bytes; this one has %d", cfg.MaxMsgSize, total)
	case len(m.Header[nats.MsgTTLHdr]) > 0 && !cfg.AllowMsgTTL:
		return "does not allow " + nats.MsgTTLHdr
	case len(m.Header[nats.MsgRollup]) > 0 && !cfg.AllowRollup:
		return "does not allow " + nats.MsgRollup
	case cfg.AllowMsgCounter:
		return "counts, and takes no other messages"
	}
	return ""
}

// full says how a stream is full that discards what is new, "" if it is not, or discards what is old.
func (s *stream) full(msg *nats.Msg) (how string) {
	if s.Config.Discard != jetstream.DiscardNew {
		return ""
	}
	_, total := size(msg)
	switch limits, state := &s.Config, &s.State; {
	case limits.MaxMsgs > 0 && state.Msgs >= uint64(limits.MaxMsgs):
		return fmt.Sprintf("%d messages of %d", state.Msgs, limits.MaxMsgs)
	case limits.MaxBytes > 0 && state.Bytes+uint64(total) > uint64(limits.MaxBytes):
		return fmt.Sprintf("%d bytes of %d", state.Bytes, limits.MaxBytes)
	}
	return ""
}

// fullOf is full for a stream that limits each subject.
func (s *streams) fullOf(ctx context.Context, st *stream, subject string) (how string, err error) {
	var info *jetstream.StreamInfo
	err = patient.Persist(ctx, func(ctx context.Context) error {
		handle, err := s.js.Stream(ctx, st.Config.Name)
		if err == nil {
			info, err = handle.Info(ctx, jetstream.WithSubjectFilter(subject))
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("stream %s: %w", st.Config.Name, err)
	}
	if limit := info.Config.MaxMsgsPerSubject; limit > 0 && info.State.Subjects[subject] >= uint64(limit) {
		return fmt.Sprintf("%d messages of %d for %s", info.State.Subjects[subject], limit, subject), nil
	}
	return "", nil
}
