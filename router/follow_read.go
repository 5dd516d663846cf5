// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/router/internal/handoff"
)

// errUnsettled is of a group that seems to be gone, while that is not certain yet.
var errUnsettled = errors.New("router: the group's record is missing; reading again")

// read reads the record once. The error is of a server that did not answer; what the answer says is in the state.
func (f *follower) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, streams.AttemptTime)
	defer cancel()
	heard := f.heard.Load() // before the read, so that whatever is told during it is a reason for another
	v, err := f.s.record(ctx, f.group)
	f.counts.reads.Add(1)
	switch {
	case err == nil:
		f.missing = 0
		f.take(v.record)
	case errors.Is(err, ErrNoGroup):
		return f.lose(v, heard, err)
	case errors.Is(err, ErrRecord), errors.Is(err, ErrNewerRecord):
		f.missing = 0
		f.counts.unreadable.Add(1)
		f.tried.Store(heard)
		f.set(f.record(), err)
	default:
		f.counts.failed.Add(1)
		f.log.WithError(err).Debug("the ring was not read; trying again")
		return err
	}
	return nil
}

// take makes a record the newest, unless it is not.
func (f *follower) take(r *handoff.Record) {
	state := f.state.Load()
	switch old := state.record; {
	case old == nil || r.After(old.Incarnation, old.Epoch):
		f.tried.Store(nil)
		f.set(r, nil)
	case r.Incarnation == old.Incarnation && r.Epoch == old.Epoch:
		f.set(old, nil) // it is there again
	default:
		f.counts.stale.Add(1)
		f.log.WithField("epoch", r.Epoch).Debug("a server that is behind gave an older ring")
	}
}

// lose takes that there is no record. It is believed at once of a group that was never seen, and of a deletion that says
// which record it deleted; else when it is said again and again, because a server that was deposed may be behind.
func (f *follower) lose(v version, heard *hint, err error) error {
	old := f.record()
	if old != nil && v.last.Incarnation > 0 && newer(old.Incarnation, old.Epoch, v.last.Incarnation, v.last.Epoch) {
		f.counts.stale.Add(1)
		return nil
	}
	if old != nil && v.last.Incarnation == 0 && !errors.Is(f.state.Load().err, ErrNoGroup) {
		if f.missing++; f.missing < lostReads {
			return errUnsettled
		}
	}
	f.missing = 0
	f.tried.Store(heard)
	f.set(old, err)
	return nil
}

// set makes another state, if it is another.
func (f *follower) set(record *handoff.Record, err error) {
	old := f.state.Load()
	if old.record == record && sameText(old.err, err) {
		return
	}
	f.state.Store(&followed{record, err, make(chan struct{})})
	close(old.changed)
	switch {
	case errors.Is(err, ErrRecord), errors.Is(err, ErrNewerRecord):
		f.log.WithError(err).Error("the ring cannot be read; the last good one stays in force")
	case errors.Is(err, ErrNoGroup) && record != nil:
		f.log.Warn("the group was deleted")
	case record != nil:
		f.log.WithField("epoch", record.Epoch).Debug("the ring")
	}
}

func sameText(a, b error) bool {
	return a == nil && b == nil || a != nil && b != nil && a.Error() == b.Error()
}

// answer tells those who wait for a read what came of it, and gives those who are to wait for the next: a server that
// restarts does not answer for a while.
func (f *follower) answer(waiting []*ask, err error) (still []*ask) {
	for _, a := range waiting {
		if err != nil && (errors.Is(err, errUnsettled) || time.Since(a.begun) < streams.Patience(err, errUnknown)) {
			still = append(still, a)
			continue
		}
		told := err
		if told == nil {
			_, told = f.current()
		}
		a.answer <- told
	}
	return still
}
