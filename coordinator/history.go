// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
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
	trimmed   uint64
}

// mark: before sequence, bytes had been read, at log time.
type mark struct {
	sequence uint64
	at       int64
	bytes    int64
}

// markEvery is the distance of marks, in milliseconds of log time.
const markEvery = 1000

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
	drop := 0
	for drop < len(h.marks) && (now-h.marks[drop].at > h.keep.Milliseconds() || h.bytes-h.marks[drop].bytes > h.keepBytes) {
		drop++
	}
	if drop == 0 {
		return 0
	}
	// Everything before the newest of the dropped marks is beyond a bound.
	sequence := min(h.marks[drop-1].sequence, checkpoint)
	h.marks = h.marks[drop-1:]
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
	at := l.fold.Checkpoint()
	horizon := l.history.horizon(at.Sequence, nowMilli())
	l.metrics.open(l.shard, l.fold)
	go func() { // the leader does not wait for the disk
		timed, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		full, err := l.save(timed, at, horizon)
		if err != nil {
			l.log.WithError(err).Warn("upkeep of the log failed; it is tried again")
		}
		select {
		case l.calls <- func() {
			l.saving, l.full = false, full
			if err == nil && horizon > 0 {
				l.history.trimmed = horizon
			}
		}:
		case <-ctx.Done():
		}
	}()
}

// save writes the checkpoint before it trims: what is trimmed must never be needed by who reads the older one.
func (l *leader) save(ctx context.Context, at protocol.Checkpoint, horizon uint64) (full bool, err error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return false, err
	}
	limit := info.Config.MaxBytes
	full = limit > 0 && int64(info.State.Bytes) >= limit-limit/10
	if err := l.checkpoints.save(ctx, l.shard, at); err != nil {
		return full, err
	}
	crash.Here("coordinator.checkpoint.saved")
	if horizon == 0 {
		return full, nil
	}
	defer crash.Here("coordinator.log.trimmed")
	return full, l.stream.Purge(ctx, jetstream.WithPurgeSequence(horizon))
}

func nowMilli() int64 { return time.Now().UnixMilli() }
