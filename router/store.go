// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// store is where the records and the presences are. It keeps nothing but how to get there, and is safe for concurrent use.
type store struct {
	cfg   Config
	names names
	nc    *nats.Conn
	js    jetstream.JetStream
}

// newStore gives a store on a connection. Nothing is sent yet; who only reads, or writes its own presence, needs no more.
func newStore(nc *nats.Conn, cfg Config) (*store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return &store{cfg, cfg.names(), nc, js}, nil
}

// open makes the bucket, or checks the one that is there.
func (s *store) open(ctx context.Context) error {
	return openBucket(ctx, s.js, s.names, s.cfg.Replicas)
}

// version is a record as it is stored.
type version struct {
	record *handoff.Record // nil when there is none, or it was deleted, or cannot be read
	raw    raw
	// last is what the record was numbered that was deleted; zero for others.
	last hint
}

// record reads a group's record. The error is ErrNoGroup, ErrRecord or ErrNewerRecord, with a version whose raw is right, or
// anything else when there was no answer.
func (s *store) record(ctx context.Context, group string) (version, error) {
	stored, err := s.last(ctx, s.names.recordSubject(group))
	if errors.Is(err, errNoBucket) {
		return version{}, noGroup(group)
	}
	if err != nil {
		return version{}, fmt.Errorf("router: read group %s: %w", group, err)
	}
	return readRecord(group, stored)
}

func noGroup(group string) error { return fmt.Errorf("router: %w: %s", ErrNoGroup, group) }

// readRecord makes a version of what is stored.
func readRecord(group string, stored raw) (version, error) {
	v := version{raw: stored}
	if stored.deleted {
		_ = json.Unmarshal(stored.data, &v.last) // a marker of another's has no number, and is as good
	}
	if stored.deleted || stored.revision == 0 {
		return v, noGroup(group)
	}
	record, err := handoff.Decode(stored.data)
	switch {
	case errors.Is(err, handoff.ErrNewer):
		return v, fmt.Errorf("router: %w: group %s, revision %d: %w", ErrNewerRecord, group, stored.revision, err)
	case err == nil && record.Group != group:
		err = fmt.Errorf("it says that it is of group %.80q", record.Group)
	}
	if err != nil {
		return v, fmt.Errorf("router: %w: group %s, revision %d: %w", ErrRecord, group, stored.revision, err)
	}
	v.record = record
	return v, nil
}

// put stores the record that comes after a version, and tells those who follow the group. What it gives is what is stored
// then, the record or a later one. The error is as swap's.
func (s *store) put(ctx context.Context, before version, next *handoff.Record) (version, error) {
	checkNext(before, next)
	msg := &nats.Msg{Data: next.Encode()}
	stored, err := s.swap(ctx, s.names.recordSubject(next.Group), msg, before.raw)
	if err != nil {
		return version{}, fmt.Errorf("router: write group %s: %w", next.Group, err)
	}
	s.hint(next.Group, next.Incarnation, next.Epoch)
	if string(stored.data) == string(msg.Data) {
		return version{record: next, raw: stored}, nil
	}
	after, _ := readRecord(next.Group, stored) // the write was stored; what others made of it is the next reader's to judge
	return after, nil
}

// checkNext panics when a record cannot come after another: its epoch is one more, or it begins a greater incarnation.
func checkNext(before version, next *handoff.Record) {
	was := before.last
	if before.record != nil {
		was = hint{before.record.Incarnation, before.record.Epoch}
		if next.Incarnation == was.Incarnation && next.Epoch == was.Epoch+1 {
			return
		}
	} else if next.Epoch == 1 && next.Incarnation > was.Incarnation {
		return
	}
	panic(fmt.Sprintf("router: group %s: epoch %d of incarnation %d after epoch %d of %d", next.Group, next.Epoch, next.Incarnation, was.Epoch, was.Incarnation))
}

// remove deletes a group's record. What is left says which number it had, so that a group that is made anew gets a greater
// one, whatever the clocks say.
func (s *store) remove(ctx context.Context, group string, before version) error {
	was := before.last
	if before.record != nil {
		was = hint{before.record.Incarnation, before.record.Epoch}
	}
	data, err := json.Marshal(was)
	if err != nil {
		return err
	}
	msg := &nats.Msg{Data: data, Header: nats.Header{"KV-Operation": {"DEL"}}}
	if _, err := s.swap(ctx, s.names.recordSubject(group), msg, before.raw); err != nil {
		return fmt.Errorf("router: delete group %s: %w", group, err)
	}
	s.hint(group, was.Incarnation, was.Epoch+1)
	return nil
}

// hint tells those who follow a group that there is a record as new as this. Who misses it reads later.
func (s *store) hint(group string, incarnation, epoch uint64) {
	data, err := json.Marshal(hint{incarnation, epoch})
	if err == nil {
		err = s.nc.Publish(s.names.hintSubject(group), data)
	}
	if err != nil {
		s.cfg.Log.WithError(err).WithField("group", group).Debug("a new ring was not told; who follows it reads it later")
	}
}

// goneFor is how long it stays that a presence was deleted: it only cleans up.
const goneFor = "1h"

// presence reads what a node says of itself; the raw is of revision 0 or deleted when it says nothing.
func (s *store) presence(ctx context.Context, group, node string) (handoff.Presence, raw, error) {
	stored, err := s.last(ctx, s.names.presenceSubject(group, node))
	if err != nil {
		return handoff.Presence{}, raw{}, fmt.Errorf("router: read what node %s of group %s says: %w", node, group, err)
	}
	if stored.deleted || stored.revision == 0 {
		return handoff.Presence{}, stored, nil
	}
	p, err := handoff.DecodePresence(stored.data)
	if err != nil {
		return handoff.Presence{}, stored, fmt.Errorf("router: %w: what node %s of group %s says, revision %d: %w", ErrRecord, node, group, stored.revision, err)
	}
	p.Revision = stored.revision
	return p, stored, nil
}

// putPresence stores what a node says of itself, in the place of what is known to be stored. The error is as swap's.
func (s *store) putPresence(ctx context.Context, group, node string, p *handoff.Presence, before raw) (raw, error) {
	return s.swap(ctx, s.names.presenceSubject(group, node), &nats.Msg{Data: p.Encode()}, before)
}

// deletePresence takes back what a node said of itself.
func (s *store) deletePresence(ctx context.Context, group, node string, before raw) (raw, error) {
	msg := &nats.Msg{Header: nats.Header{"KV-Operation": {"DEL"}, jetstream.MsgTTLHeader: {goneFor}}}
	return s.swap(ctx, s.names.presenceSubject(group, node), msg, before)
}
