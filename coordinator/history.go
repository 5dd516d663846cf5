// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/protocol"
)

// history knows how far the log may be trimmed: a mark every so often, of what was read by then.
type history struct {
	keep      time.Duration
	keepBytes int64
	marks     []mark // oldest first
	bytes     int64  // read since the leader came
	last      mark
	// bound is the first sequence that the bounds keep, and trimmed the one that the log was trimmed to.
	bound, trimmed uint64
}

// mark: before sequence, bytes had been read, at log time.
type mark struct {
	sequence uint64
	at       int64
	bytes    int64
}

// markEvery is the distance of marks, in milliseconds of log time.
const markEvery = 1000

// begin starts anew with what the stream holds, before it is replayed.
func (h *history) begin(state *jetstream.StreamState) {
	*h = history{keep: h.keep, keepBytes: h.keepBytes}
	if state.Msgs > 0 {
		h.marks = []mark{{state.FirstSeq, state.FirstTime.UnixMilli(), 0}}
	}
}

// replayed counts what lies before the replay's start, which was not read, among the bytes.
func (h *history) replayed(state *jetstream.StreamState) {
	unread := max(int64(state.Bytes)-h.bytes, 0)
	for i := range h.marks {
		if i > 0 {
			h.marks[i].bytes += unread
		}
	}
	h.bytes += unread
}

func (h *history) saw(sequence uint64, at int64, size int) {
	if h.last.sequence == 0 || at-h.last.at >= markEvery {
		h.last = mark{sequence, at, h.bytes}
		h.marks = append(h.marks, h.last)
	}
	h.bytes += int64(size)
}

// horizon is the first sequence that is to be kept, given that nothing from the checkpoint on may go; 0 when nothing new
// can be trimmed.
func (h *history) horizon(checkpoint uint64, now int64) uint64 {
	old, large := 0, 0
	for old+1 < len(h.marks) && now-h.marks[old+1].at > h.keep.Milliseconds() {
		old++ // what lies before a mark that is too old is older still
	}
	for large+1 < len(h.marks) && h.bytes-h.marks[large].bytes > h.keepBytes {
		large++
	}
	if keep := max(old, large); keep > 0 {
		h.marks = h.marks[keep:]
		h.bound = h.marks[0].sequence
	}
	sequence := min(h.bound, checkpoint)
	if sequence <= h.trimmed {
		return 0
	}
	return sequence
}

// upkeep saves a checkpoint, trims the log and looks whether it is full.
func (l *leader) upkeep(ctx context.Context) {
	if l.saving {
		return
	}
	l.saving = true
	taken := l.room.taken
	at := l.fold.Checkpoint()
	horizon := l.history.horizon(at.Sequence, nowMilli())
	l.metrics.open(l.shard, l.fold, l.delivery, nowMilli())
	go func() { // the leader does not wait for the disk
		timed, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		now, err := l.save(timed, at, horizon)
		if err != nil && ctx.Err() == nil && !errors.Is(err, protocol.ErrGap) && !errors.Is(err, ErrLogLost) {
			l.log.WithError(err).Warn("upkeep of the log failed; it is tried again")
		}
		select {
		case l.calls <- func() {
			l.saving = false
			if now.limit != 0 { // else it could not be told: what was so stays so
				now.taken = l.room.taken - taken
				l.full, l.room = now.full(), now
			}
			l.behind = errors.Is(err, protocol.ErrGap)
			if errors.Is(err, ErrLogLost) {
				l.lost = err
			}
			if err == nil && horizon > 0 {
				l.history.trimmed = horizon
			}
		}:
		case <-ctx.Done():
		}
	}()
}

// save writes the checkpoint before it trims: what is trimmed must never be needed by who reads the older one.
func (l *leader) save(ctx context.Context, at protocol.Checkpoint, horizon uint64) (now room, err error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return now, err
	}
	if err := l.goesAsFar(ctx, info, at.Through); err != nil {
		return now, err
	}
	if info.State.FirstSeq > at.Through+1 { // another leader trimmed what this one has not read, and nothing came after it yet
		return now, protocol.ErrGap
	}
	now.limit, now.bytes = info.Config.MaxBytes, int64(info.State.Bytes)
	var moved error
	if now.full() {
		moved = l.moveLogTime(ctx) // and trim all the same: a log without any room has none for this either
	}
	if err := l.checkpoints.save(ctx, l.shard, at); err != nil {
		return now, errors.Join(moved, err)
	}
	crash.Here("coordinator.checkpoint.saved")
	if horizon == 0 {
		return now, moved
	}
	defer crash.Here("coordinator.log.trimmed")
	return now, errors.Join(moved, l.stream.Purge(ctx, jetstream.WithPurgeSequence(horizon)))
}

// room is the room in a log: its limit in bytes (0 or less for none), what it held when the leader looked last, and what
// transactions may have added since. A tenth is held back for the votes and outcomes of what is open: if transactions took
// it, nothing could end and nothing could be trimmed.
type room struct{ limit, bytes, taken int64 }

func (r *room) full() bool { return r.limit > 0 && r.bytes+r.taken >= r.limit-r.limit/10 }

// perMessage is what a message of the log costs beside its records, at the most: subject, headers, the store's own.
const perMessage = 256

// take counts a submission's prepares and votes, as if they shared no message with others.
func (r *room) take(size, participants int) {
	r.taken += int64(size + 2*perMessage*participants)
}

// moveLogTime appends a message without records: a full log takes no transactions, and without a message log time would
// stand still, so that nothing would ever be forgotten and trimmed.
func (l *leader) moveLogTime(ctx context.Context) error {
	js, err := jetstream.New(l.nc)
	if err != nil {
		return err
	}
	_, err = js.Publish(ctx, l.aborts, nil)
	return err
}

func nowMilli() int64 { return time.Now().UnixMilli() }
