// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
)

// tailBytes bounds what the server sends ahead to a follower of the log.
const tailBytes = 8 << 20

// tailBeat is how often the server says that it still has the follower's request; after two that were missed, the follower begins anew after what it has
// read. A server that dies takes the follower's consumer with it, and nobody says so to a connection to another one. (The default is 5 s.)
const tailBeat = 2 * time.Second

// follow delivers the log from a sequence on to l.tail, in order and without gaps, until ctx ends or stop is called.
func (l *leader) follow(ctx context.Context, from uint64) (stop func(), err error) {
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:   max(from, 1),
	})
	if err != nil {
		return nil, fmt.Errorf("follow the log of shard %d: %w", l.shard, err)
	}
	tail := make(chan jetstream.Msg, tailQueue) // of its own, so that nothing of an earlier term is read
	l.tail = tail
	consuming, err := consumer.Consume(func(msg jetstream.Msg) {
		select {
		case tail <- msg:
		case <-ctx.Done():
		}
	}, jetstream.PullMaxMessagesWithBytesLimit(2*messages.MaxRecords, tailBytes), jetstream.PullHeartbeat(tailBeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			l.log.WithError(err).Debug("following the log")
		}))
	if err != nil {
		return nil, fmt.Errorf("follow the log of shard %d: %w", l.shard, err)
	}
	return consuming.Stop, nil
}

// replay reads the log to where it ended when the reading began, without acting on it.
func (l *leader) replay(ctx context.Context) error {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	l.history.begin(&info.State)
	crash.Here("coordinator.replay.begun")
	if err := l.readTo(ctx, &info.State); err != nil {
		return err
	}
	crash.Here("coordinator.replay.read")
	l.history.replayed(&info.State)
	return nil
}

// goesAsFar tells, of a state of the stream that was asked for later, that the log still has what was read last. If not it was put back to an earlier
// state, by a backup or a server that had not written what it acknowledged: what comes would be passed over until it has grown as long, votes and
// aborts alike, and then be taken to follow what is not there any more. A server that was paused and deposed tells of the past, which is no reason to stop
// all coordinators at once: the log has to stay short.
func (l *leader) goesAsFar(ctx context.Context, info *jetstream.StreamInfo, read uint64) (err error) {
	for begun := time.Now(); info.State.LastSeq < read; {
		if time.Since(begun) >= streams.ShortPatience && streams.OfNow(info) {
			return fmt.Errorf("%w: shard %d was read up to sequence %d, and stream %s ends at %d", ErrLogLost, l.shard, read, info.Config.Name, info.State.LastSeq)
		}
		if !streams.Pause(ctx, streams.AttemptPause) {
			return ctx.Err()
		}
		if info, err = l.stream.Info(ctx); err != nil {
			return fmt.Errorf("log of shard %d: %w", l.shard, err)
		}
	}
	return nil
}

// readTo reads the log to where it ends by a state of its stream.
func (l *leader) readTo(ctx context.Context, state *jetstream.StreamState) error {
	if state.FirstSeq > l.fold.Sequence()+1 { // trimmed by the leader; perhaps nothing came after it yet
		return protocol.ErrGap
	}
	for l.fold.Sequence() < state.LastSeq {
		select {
		case msg := <-l.tail:
			if err := l.onLog(msg); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// onLog folds one message of the log and carries out its effects.
func (l *leader) onLog(msg jetstream.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	name := l.parse(msg.Subject())
	at := meta.Timestamp.UnixMilli()
	malformed := l.fold.Stats().Malformed
	err = l.fold.Message(meta.Sequence.Stream, at, name.kind, name.participant, msg.Data())
	switch {
	case errors.Is(err, messages.ErrNewerVersion):
		return fmt.Errorf("shard %d, sequence %d: %w: upgrade this coordinator", l.shard, meta.Sequence.Stream, err)
	case err != nil:
		return fmt.Errorf("shard %d, sequence %d: %w", l.shard, meta.Sequence.Stream, err)
	}
	if stats := l.fold.Stats(); stats.Malformed > malformed {
		l.metrics.malformed.Add(float64(stats.Malformed - malformed))
		l.log.WithError(stats.LastMalformed).WithFields(logrus.Fields{
			"sequence": meta.Sequence.Stream, "subject": msg.Subject(),
		}).Warn("malformed records in the log were ignored")
	}
	if l.leading { // what is replayed is old, and tells nothing of the time
		l.clock.Saw(meta.Timestamp, time.Now())
	}
	l.history.saw(meta.Sequence.Stream, at, len(msg.Data()))
	l.perform()
	return nil
}

// parse reads a log subject; each is parsed once.
func (l *leader) parse(subject string) subjectName {
	name, ok := l.names[subject]
	if !ok {
		name.kind, name.participant = l.subjects.ParseLog(l.shard, subject)
		if len(l.names) > 4096 { // garbage subjects must not grow it without end
			clear(l.names)
		}
		l.names[subject] = name
	}
	return name
}

// perform carries out the fold's effects; answers, commits and rollbacks wait for the flush that follows.
func (l *leader) perform() {
	now := nowMilli()
	for _, e := range l.fold.Take() {
		switch e.Kind {
		case protocol.Decided:
			l.onDecided(&e)
		case protocol.Send:
			if e.Presumed {
				l.presumed[e.Participant] = append(l.presumed[e.Participant], messages.Effect{Tx: e.Tx, Vote: e.Vote})
			} else {
				l.delivery.Owe(e, now)
			}
		case protocol.Finished:
			l.delivery.Forget(e.Tx)
		case protocol.Ignored:
			l.answerAll(e.Tx, tryAgain(e.Tx, "the transaction came too late to be told from one that was forgotten"))
		}
	}
}

func (l *leader) onDecided(e *protocol.Effect) {
	crash.Here("coordinator.decided")
	delete(l.aborting, e.Tx)
	l.metrics.decided(e.Outcome, e.Conflict)
	if l.cfg.Log.IsLevelEnabled(logrus.DebugLevel) {
		l.log.WithFields(logrus.Fields{"tx": e.Tx, "outcome": e.Outcome, "participant": e.Participant, "reason": e.Reason}).Debug("decided")
	}
	l.answerAll(e.Tx, l.answerOf(e.Tx, &protocol.Verdict{
		Outcome: e.Outcome, Participant: e.Participant, Reason: e.Reason, WrongOwner: e.WrongOwner, Conflict: e.Conflict,
	}))
}
