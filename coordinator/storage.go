// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
)

// duplicates is how long JetStream knows a message id again: longer than a publish is likely to stay unknown. The
// protocol bears a message that is stored twice, so a longer window would only cost memory.
const duplicates = 30 * time.Second

// ErrLogLost means that the log ends before a place that was acknowledged: the server has lost data, by a restored backup
// or a deleted stream. Nothing that it says can be trusted; an operator has to decide.
var ErrLogLost = errors.New("the log has lost data")

// ErrStreamSettings means that a stream, of a log or of a bucket, exists with settings under which the protocol is not safe.
var ErrStreamSettings = errors.New("unsafe settings")

// openLog creates the stream of a shard, or checks the one that is there and gives it the size that cfg says.
func openLog(ctx context.Context, js jetstream.JetStream, subjects messages.Subjects, shard int, cfg *Config) (jetstream.Stream, error) {
	want := jetstream.StreamConfig{
		Name:        subjects.Stream(shard),
		Description: "Assent: the log of shard " + strconv.Itoa(shard),
		Subjects:    []string{subjects.Log(shard)},
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
		MaxBytes:    max(cfg.MaxBytes, 0),
		Duplicates:  duplicates,
		AllowDirect: false,
		DenyDelete:  true,
		Metadata:    map[string]string{"assent-shards": strconv.Itoa(cfg.Shards)},
	}
	if want.MaxBytes == 0 {
		want.MaxBytes = -1
	}
	stream, err := streams.Open(ctx, js, want)
	if err != nil {
		return nil, err
	}
	have := stream.CachedInfo().Config
	if err := checkLog(have, want); err != nil {
		return nil, err
	}
	if have.MaxBytes != want.MaxBytes {
		have.MaxBytes = want.MaxBytes
		if stream, err = js.UpdateStream(ctx, have); err != nil {
			return nil, fmt.Errorf("stream %s: set its size to %d bytes: %w", want.Name, want.MaxBytes, err)
		}
	}
	return stream, nil
}

// checkLog compares the settings that the protocol's safety rests on.
func checkLog(have, want jetstream.StreamConfig) error {
	if err := streams.Check(have, want, "records"); err != nil {
		return fmt.Errorf("%w: %w", ErrStreamSettings, err)
	}
	if have, want := have.Metadata["assent-shards"], want.Metadata["assent-shards"]; have != want {
		return fmt.Errorf("%w: it was made for %s shards, this coordinator is told %s: the number is fixed; start with --shards %s",
			ErrStreamSettings, have, want, have)
	}
	return nil
}

// openBucket makes a small KV bucket, or checks the one that is there. It is made as the stream that it is, because the KV API would
// turn on direct gets, which may be stale on a replicated stream: here the stream's leader answers. A log that was trimmed is read wrongly
// by who finds no checkpoint, or one of before.
func openBucket(ctx context.Context, js jetstream.JetStream, name, description, what string, replicas int) (kv jetstream.KeyValue, err error) {
	want := jetstream.StreamConfig{
		Name: "KV_" + name, Description: description, Subjects: []string{"$KV." + name + ".>"},
		MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: replicas,
		AllowRollup: true, DenyDelete: true, AllowDirect: false, Duplicates: duplicates,
	}
	stream, err := streams.Open(ctx, js, want)
	if err != nil {
		return nil, err
	}
	if err := streams.Check(stream.CachedInfo().Config, want, what); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStreamSettings, err)
	}
	err = streams.Persist(ctx, func(ctx context.Context) (err error) {
		kv, err = js.KeyValue(ctx, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", name, err)
	}
	return kv, nil
}

// checkpoints keeps where each shard's log is read from. A stored checkpoint is only ever replaced by a later one: what
// lies before it may be trimmed already.
type checkpoints struct{ bucket jetstream.KeyValue }

// load reads where to start a shard's log, and holds it against what the stream still has.
//
// What it reads may be of the past: a leader of the bucket's stream that was paused, and deposed meanwhile, answers until it hears of that. An
// old checkpoint is as good a start as the one of today, as long as the log has all that follows it; if it has not, whoever reads the log meets
// a gap, and comes back here. But one that lies before what the log has, or none though the log was trimmed, must not be believed for being
// read: it is stored again in its own place, which takes a majority. That is refused if there is another one by now. Whoever dies after it
// leaves a checkpoint by which the next one starts, or refuses to, as this one would have.
func (c checkpoints) load(ctx context.Context, shard int, stream jetstream.Stream) (protocol.Checkpoint, error) {
	for begun := time.Now(); ; {
		stored, revision, err := c.stored(ctx, shard)
		if err != nil {
			return stored, err
		}
		info, err := stream.Info(ctx)
		if err != nil {
			return stored, fmt.Errorf("log of shard %d: %w", shard, err)
		}
		from, lost := start(stored, shard, info)
		if lost != nil && (time.Since(begun) < streams.ShortPatience || !streams.OfNow(info)) {
			wait(ctx, streams.AttemptPause) // the log's state may be of the past, too
			continue
		}
		if first := info.State.FirstSeq; stored.Sequence >= first || first <= 1 || from.Sequence == 0 {
			return from, lost
		}
		proven, err := c.replace(ctx, shard, from, revision)
		if err != nil || proven {
			return from, errors.Join(err, lost)
		}
		wait(ctx, streams.AttemptPause)
	}
}

// start is where a log is read from, by the checkpoint that is stored (of sequence 0 if there is none) and its stream.
func start(from protocol.Checkpoint, shard int, info *jetstream.StreamInfo) (protocol.Checkpoint, error) {
	state := &info.State
	read := max(from.Sequence, from.Through+1)
	switch first := state.FirstSeq; {
	case read > state.LastSeq+1:
		return from, fmt.Errorf("%w: shard %d's checkpoint was left when the log had been read up to sequence %d, and stream %s ends at %d",
			ErrLogLost, shard, read-1, info.Config.Name, state.LastSeq)
	case from.Sequence >= first:
		return from, nil
	case from.Sequence > 0 || first > 1 && state.Msgs == 0:
		return from, fmt.Errorf("%w: shard %d's checkpoint is at sequence %d and stream %s begins at %d: it was purged by somebody else",
			ErrLogLost, shard, from.Sequence, info.Config.Name, first)
	case first > 1:
		// The log was trimmed and its checkpoint is gone: nobody knows which ids came before, so none as old is taken. What
		// the log has is believed: what was decided in it must not be forgotten.
		from.Floor, from.Through = state.FirstTime.UnixMilli(), state.LastSeq
	}
	from.Sequence = state.FirstSeq
	return from, nil
}

// stored is the checkpoint in the bucket and its revision; zero when there is none.
func (c checkpoints) stored(ctx context.Context, shard int) (at protocol.Checkpoint, revision uint64, err error) {
	entry, err := c.bucket.Get(ctx, strconv.Itoa(shard))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return at, 0, nil
	}
	if err != nil {
		return at, 0, fmt.Errorf("checkpoint of shard %d: %w", shard, err)
	}
	if err := json.Unmarshal(entry.Value(), &at); err != nil {
		return at, 0, fmt.Errorf("checkpoint of shard %d: %w", shard, err)
	}
	return at, entry.Revision(), nil
}

// save stores a checkpoint unless one as late is stored already; another leader may have been quicker.
func (c checkpoints) save(ctx context.Context, shard int, at protocol.Checkpoint) error {
	for {
		old, revision, err := c.stored(ctx, shard)
		if err != nil {
			return err
		}
		if old.Sequence > at.Sequence || (old.Sequence == at.Sequence && old.Through >= at.Through && revision > 0) {
			return nil
		}
		if saved, err := c.replace(ctx, shard, at, revision); saved || err != nil {
			return err
		}
	}
}

// replace stores a checkpoint in place of the one of a revision, or of none (0); false when that is not what is there.
func (c checkpoints) replace(ctx context.Context, shard int, at protocol.Checkpoint, revision uint64) (bool, error) {
	data, err := json.Marshal(at)
	if err != nil {
		return false, err
	}
	if revision > 0 {
		_, err = c.bucket.Update(ctx, strconv.Itoa(shard), data, revision)
	} else {
		_, err = c.bucket.Create(ctx, strconv.Itoa(shard), data) // also over the marker that a deleted one has left, which has a revision
	}
	switch refusal := new(jetstream.APIError); {
	case err == nil:
		return true, nil
	case errors.As(err, &refusal) && (refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		refusal.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant): // the second, at three replicas: also a write in flight
		return false, nil
	default:
		return false, fmt.Errorf("checkpoint of shard %d: %w", shard, err)
	}
}
