// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// Prepare implements participant.Handler. The keys of the branch are locked, by the SDK and only in this process: that nobody
// else's transactions come between what is read here and what is written to the journal is proven by the latter.
func (s *store) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	switch s.Status(b.Tx) {
	case journal.Open, journal.Committed: // the prepare is delivered once more
		return participant.Yes, nil
	case journal.RolledBack:
		return 0, participant.Refuse(errors.New("it was rolled back here already"))
	case journal.Forgotten:
		return 0, participant.Conflict(errors.New("it is too old to be told from one that was finished here"))
	case journal.Unknown:
	}
	d, err := s.demands(ctx, b)
	if err != nil {
		return 0, err
	}
	if err := s.fence(ctx, b); err != nil {
		return 0, err
	}
	writes, err := s.validate(ctx, d)
	if err != nil {
		return 0, err
	}
	crash.Here("kv.validated")
	if len(writes) == 0 && !b.Isolated() {
		return participant.ReadOnly, s.Prove(ctx)
	}
	p := &prepared{Keys: b.Keys(), Writes: writes}
	data, err := json.Marshal(p)
	if err != nil {
		return 0, err
	}
	err = s.Append(ctx, journal.Entry{Tx: b.Tx, Expires: b.Expires, Data: data, Note: p})
	if errors.Is(err, journal.ErrTooLarge) {
		return 0, participant.Refuse(err)
	}
	if err != nil {
		return 0, err
	}
	crash.Here("kv.prepared")
	s.counts.prepared.Add(1)
	return participant.Yes, nil
}

// demands is what a branch asks for; what is wrong with it is a refusal.
func (s *store) demands(ctx context.Context, b *participant.Branch) (*demands, error) {
	d := &demands{}
	for i := range b.Operations {
		var op Operation
		if err := b.Decode(i, &op); err != nil {
			return nil, err
		}
		if err := d.collect(&op); err != nil {
			return nil, participant.Refuse(fmt.Errorf("operation %d: %w", i, err))
		}
	}
	if err := locked(b.Keys(), d); err != nil {
		return nil, participant.Refuse(err)
	}
	largest := make(map[string]int)
	for _, r := range d.refs {
		if _, known := largest[r.bucket]; known {
			continue
		}
		size, err := s.buckets.get(ctx, r.bucket)
		switch {
		case errors.Is(err, ErrNoBucket), errors.Is(err, ErrBucket):
			return nil, participant.Refuse(err)
		case err != nil:
			return nil, err
		}
		largest[r.bucket] = size
	}
	for _, c := range d.changes {
		if err := c.fits(largest[c.bucket], int(s.nc.MaxPayload())); err != nil {
			return nil, participant.Refuse(err)
		}
	}
	return d, nil
}

// locked tells which key the branch uses without locking it: shared for what it reads, for itself what it writes.
func locked(keys []participant.Key, d *demands) error {
	for _, r := range d.refs {
		name := KeyName(r.bucket, r.key)
		_, written := d.changes[r]
		i, found := slices.BinarySearchFunc(keys, name, func(k participant.Key, name string) int { return strings.Compare(k.Name, name) })
		switch {
		case !found && written:
			return fmt.Errorf("key %s is written and not locked: the operation must name %q among its keys", r, name)
		case !found:
			return fmt.Errorf("key %s is read and not locked: the operation must name %q among its shared keys", r, name)
		case written && keys[i].Shared:
			return fmt.Errorf("key %s is written and only locked as shared: the operation must name %q among its keys", r, name)
		}
	}
	return nil
}

// validate compares the revisions that the branch demands with those that the keys have, and gives what a commit has to write.
// A deletion of what is not there is nothing to write.
func (s *store) validate(ctx context.Context, d *demands) ([]write, error) {
	have, err := s.have(ctx, d)
	if errors.Is(err, ErrNoBucket) {
		return nil, participant.Refuse(err)
	}
	if err != nil {
		return nil, err
	}
	var writes []write
	for i, r := range d.refs {
		if want, demanded := d.revisions[r]; demanded && want != have[i].revision {
			s.counts.conflicts.Add(1)
			return nil, participant.Conflict(fmt.Errorf("key %s was read at revision %d and is at %d now", r, want, have[i].revision))
		}
		c, written := d.changes[r]
		if !written || c.delete && (have[i].gone || have[i].revision == 0) {
			continue
		}
		writes = append(writes, write{Bucket: r.bucket, Key: r.key, Base: have[i].revision, Value: c.value, Delete: c.delete})
	}
	return writes, nil
}
