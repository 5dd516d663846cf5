// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// PrepareBatch implements participant.BatchHandler: it checks that the branches' messages can be published, and writes them to
// the journal, all in one append.
//
// A crash before the append leaves nothing; after it, the entry is open, and the next instance recalls it.
func (h *handler) PrepareBatch(ctx context.Context, branches []*participant.Branch) []participant.Result {
	results := make([]participant.Result, len(branches))
	var entries []journal.Entry
	var intents []*intent
	var at []int
	for i, b := range branches {
		if vote, err := h.known(b); vote != 0 || err != nil {
			results[i] = participant.Result{Vote: vote, Err: err}
			continue
		}
		in, entry, err := h.plan(ctx, b)
		if err != nil {
			results[i].Err = err
			continue
		}
		entries, intents, at = append(entries, entry), append(intents, in), append(at, i)
	}
	if len(entries) == 0 {
		return results
	}
	err := h.wrap(h.journal.Append(ctx, entries...))
	if err == nil {
		h.add(intents)
	}
	for _, i := range at {
		if results[i].Err = err; err == nil {
			results[i].Vote = participant.Yes
		}
	}
	return results
}

// known is the answer to a prepare that comes again: the same as before.
func (h *handler) known(b *participant.Branch) (participant.Vote, error) {
	switch h.journal.Status(b.Tx) {
	case journal.Open:
		if h.find(b.Tx) != nil {
			return participant.Yes, nil
		}
		return 0, nil // written by an append that failed afterwards: again
	case journal.Committed:
		return participant.Yes, nil
	case journal.RolledBack:
		return 0, participant.Refuse(errors.New("it was rolled back already"))
	case journal.Forgotten:
		return 0, participant.Conflict(errors.New("it may have been finished so long ago that this is not known any more"))
	case journal.Unknown:
		return 0, nil
	default:
		return 0, nil
	}
}

// plan checks all messages of a branch, and gives what is to be kept of them.
func (h *handler) plan(ctx context.Context, b *participant.Branch) (*intent, journal.Entry, error) {
	in := &intent{tx: b.Tx, keys: b.Keys(), messages: make([]*planned, len(b.Operations))}
	for i := range b.Operations {
		m := &planned{}
		in.messages[i] = m
		if err := b.Decode(i, &m.Message); err != nil {
			return nil, journal.Entry{}, err
		}
		if err := h.place(ctx, b, i, m); err != nil {
			return nil, journal.Entry{}, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	data, err := in.entry()
	return in, journal.Entry{Tx: b.Tx, Expires: b.Expires, Data: data}, err
}

// place checks a message, and finds the stream that will have it.
func (h *handler) place(ctx context.Context, b *participant.Branch, operation int, m *planned) error {
	if err := m.Message.check(h.prefix); err != nil {
		return participant.Refuse(err)
	}
	msg := m.Message.message(messageID(b.Tx, h.name, operation))
	if err := checkSize(msg, h.nc.MaxPayload()); err != nil {
		return participant.Refuse(err)
	}
	if m.Message.Core {
		return nil
	}
	stream, err := h.streams.of(ctx, m.Message.Subject)
	if errors.Is(err, errNoStream) {
		return participant.Refuse(fmt.Errorf("subject %s: %w; make one, or make it a core message", m.Message.Subject, err))
	}
	if err != nil {
		return err
	}
	if stream, err = h.streams.check(ctx, stream, &m.Message, msg); err != nil {
		return err
	}
	m.Stream, m.Created, m.After = stream.Config.Name, stream.Created, stream.State.LastSeq
	return nil
}
