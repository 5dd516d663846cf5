// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// seekers look in streams for what was published already, by stream. They belong to the goroutine of FinishBatch.
type seekers map[string]*seeker

// resolve finds out, for intents that may have been published without our knowing, how far they were. What is looked for is
// looked for right before it is published: what comes later of another instance's attempts is then within the stream's
// duplicate window.
func (p *publisher) resolve(ctx context.Context, intents []*intent, errs []error) {
	var look []int
	for i, in := range intents {
		if in.published() || in.await != nil {
			continue
		}
		doubtful, err := p.doubtful(ctx, in)
		if errs[i] = err; doubtful {
			p.want(in)
			look = append(look, i)
		}
	}
	looked := time.Now()
	for _, i := range look {
		if errs[i] = p.lookFor(ctx, intents[i]); errs[i] == nil {
			intents[i].recalled, intents[i].since = false, looked
		}
	}
}

// want notes what is to be looked for.
func (p *publisher) want(in *intent) {
	for i, m := range in.messages[in.next:] {
		if !m.Message.Core {
			p.seeker(m.Stream).want(messageID(in.tx, p.name, in.next+i), m.Created, m.After)
		}
	}
}

// forget ends the looking for what is settled.
func (p *publisher) forget(in *intent) {
	for name, s := range p.seekers {
		for i := range in.messages {
			delete(s.wanted, messageID(in.tx, p.name, i))
		}
		if len(s.wanted) == 0 {
			delete(p.seekers, name)
		}
	}
}

// doubtful tells whether what is left of an intent must be looked for.
func (p *publisher) doubtful(ctx context.Context, in *intent) (bool, error) {
	if in.recalled || in.since.IsZero() {
		return in.recalled, nil
	}
	m := in.messages[in.next]
	stream, err := p.streams.named(ctx, m.Stream)
	if errors.Is(err, errNoStream) {
		return false, nil // so it cannot be there; publishing says what is wrong
	}
	if err != nil {
		return false, err
	}
	return in.doubtful(stream.Config.Duplicates), nil
}

// lookFor looks for the messages of an intent in their streams. They are published in order, so with one that is found all before
// it were published.
func (p *publisher) lookFor(ctx context.Context, in *intent) error {
	found, unsure := in.next, false
	for i := in.next; i < len(in.messages); i++ {
		m := in.messages[i]
		if m.Message.Core {
			continue
		}
		there, removed, err := p.lookForMessage(ctx, m, messageID(in.tx, p.name, i))
		if err != nil {
			return fmt.Errorf("looking in stream %s for what may have been published: %w", m.Stream, err)
		}
		if there {
			found, unsure = i+1, false
		} else {
			unsure = unsure || removed
		}
	}
	if unsure {
		p.stats.unsure(in.tx)
	}
	in.next = found
	return nil
}

// lookForMessage looks for a message where it was to be, and, if another stream takes its subject by now, there too. Removed:
// it is not there, but so are other messages of that time.
func (p *publisher) lookForMessage(ctx context.Context, m *planned, id string) (there, removed bool, err error) {
	there, removed, err = p.seeker(m.Stream).seek(ctx, id)
	if there || err != nil {
		return there, removed, err
	}
	now, err := p.streams.of(ctx, m.Message.Subject)
	if errors.Is(err, errNoStream) || (err == nil && now.Config.Name == m.Stream) {
		return false, removed, nil
	}
	if err != nil {
		return false, false, err
	}
	other := p.seeker(now.Config.Name)
	other.want(id, now.Created, 0)
	there, elsewhere, err := other.seek(ctx, id)
	return there, removed || elsewhere, err
}

// seeker gives what reads a stream.
func (p *publisher) seeker(stream string) *seeker {
	s := p.seekers[stream]
	if s == nil {
		s = &seeker{read: reader{nc: p.nc, js: p.js, stream: stream}, wanted: make(map[string]*sought)}
		p.seekers[stream] = s
	}
	return s
}

// seeker has read a stream for the ids that are wanted, up to where it ended a moment ago.
type seeker struct {
	read reader
	// created is which stream of that name was read.
	created time.Time
	// next is where reading goes on: before it, every wanted id that is there was found.
	next   uint64
	wanted map[string]*sought
	// removed is the last sequence before next of which the message is not there any more; 0 for none.
	removed uint64
}

// sought is an id that is wanted: it comes after a sequence, if at all.
type sought struct {
	after uint64
	found bool
}

// want notes that an id is wanted, which comes after a sequence of the stream that was made then.
func (s *seeker) want(id string, created time.Time, after uint64) {
	if s.wanted[id] != nil {
		return
	}
	if len(s.wanted) == 0 {
		s.created, s.next, s.removed = created, after+1, 0
	}
	if !created.Equal(s.created) {
		after = 0
	}
	s.wanted[id] = &sought{after: after}
	s.next = min(s.next, after+1)
}

// seek reads on to the stream's end, and tells whether it has an id that is wanted. What was found stays found.
func (s *seeker) seek(ctx context.Context, id string) (there, removed bool, err error) {
	want := s.wanted[id]
	if want.found {
		return true, false, nil
	}
	created, first, last, err := s.read.bounds(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return false, true, nil
	case err != nil:
		return false, false, err
	case !created.Equal(s.created) || last+1 < s.next: // made anew, or what was acknowledged is lost: all of it is to be read
		s.created, s.next = created, 1
	}
	if first > s.next {
		s.next, s.removed = first, first-1
	}
	for s.next <= last {
		n, err := s.read.ids(ctx, s.next, last, s.note)
		s.next += n
		if err != nil {
			return false, false, fmt.Errorf("at sequence %d of %d: %w", s.next, last, err)
		}
	}
	return want.found, s.removed > want.after, nil
}

// note takes one message's id; "" for none.
func (s *seeker) note(sequence uint64, there bool, id string) {
	if !there {
		s.removed = max(s.removed, sequence)
	} else if want := s.wanted[id]; want != nil {
		want.found = true
	}
}
