// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"fmt"
	"sync"

	"github.com/assent-tx/assent/messages"
)

// watermarks remember how far each shard's log had come when it took this participant's votes. A log that is shorter, or
// that was made anew, has lost data.
type watermarks struct {
	mu     sync.Mutex
	shards []watermark
}

type watermark struct {
	stream, incarnation string
	votes               string // the subject of this participant's votes
	sequence            uint64
	dirty               bool
}

// saw notes a vote's place in the log.
func (w *watermarks) saw(voteSubject string, sequence uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.shards {
		if mark := &w.shards[i]; mark.votes == voteSubject && sequence > mark.sequence {
			mark.sequence, mark.dirty = sequence, true
		}
	}
}

// sequences is how far each log had come by now, by shard.
func (w *watermarks) sequences() []uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	sequences := make([]uint64, len(w.shards))
	for i := range w.shards {
		sequences[i] = w.shards[i].sequence
	}
	return sequences
}

// voteSubject is where this participant's votes in a shard go.
func (w *watermarks) voteSubject(shard int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shards[shard].votes
}

// endsEarly is an ErrLogLost: by the coordinator's answer a log ends before a vote of this participant. The answer may be of before another instance
// voted, whose watermark the store has, or come from a server of the log that was paused and has not heard that another one leads: it is true only if
// it stays so.
type endsEarly struct{ error }

func (e endsEarly) Unwrap() error { return e.error }

// check compares what is remembered with what a coordinator says of the logs, and takes over the rest. Before is what
// sequences said before the coordinator was asked: votes that were stored since are not in its answer.
func (w *watermarks) check(ctx context.Context, p *Participant, infos []messages.ShardInfo, before []uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := w.shards == nil
	if first {
		w.shards = make([]watermark, len(infos))
	}
	if len(w.shards) != len(infos) {
		return fmt.Errorf("%w: participant %s: there were %d shards, now there are %d", ErrLogLost, p.cfg.Name, len(w.shards), len(infos))
	}
	var short error
	for i, info := range infos {
		mark := &w.shards[i]
		if store, ok := p.cfg.store().(Watermark); ok && first {
			incarnation, sequence, err := store.Watermark(ctx, info.Stream)
			if err != nil {
				w.shards = nil
				return fmt.Errorf("participant %s: watermark of %s: %w", p.cfg.Name, info.Stream, err)
			}
			mark.incarnation, mark.sequence = incarnation, sequence
		}
		voted := mark.sequence
		if !first {
			voted = before[i]
		}
		mark.stream, mark.votes = info.Stream, p.subjects.Vote(i, p.cfg.Name)
		if mark.incarnation == "" {
			mark.incarnation, mark.dirty = info.Incarnation, true
		}
		if mark.incarnation != info.Incarnation {
			return fmt.Errorf("%w: participant %s: stream %s was made anew at %s; the one that this participant voted in was made at %s",
				ErrLogLost, p.cfg.Name, info.Stream, info.Incarnation, mark.incarnation)
		}
		if voted > info.LastSequence {
			short = endsEarly{fmt.Errorf("%w: participant %s: stream %s ends at sequence %d; this participant's vote is at %d",
				ErrLogLost, p.cfg.Name, info.Stream, info.LastSequence, voted)}
		}
	}
	return short
}

// save gives what has changed to the application's store, if it keeps it.
func (w *watermarks) save(ctx context.Context, p *Participant) {
	store, ok := p.cfg.store().(Watermark)
	if !ok {
		return
	}
	w.mu.Lock()
	changed := append([]watermark(nil), w.shards...)
	for i := range w.shards {
		w.shards[i].dirty = false
	}
	w.mu.Unlock()
	for i, mark := range changed {
		if !mark.dirty {
			continue
		}
		if err := store.SetWatermark(ctx, mark.stream, mark.incarnation, mark.sequence); err != nil {
			p.log.WithError(err).Warn("the watermark could not be kept; it is tried again")
			w.mu.Lock()
			w.shards[i].dirty = true
			w.mu.Unlock()
		}
	}
}
