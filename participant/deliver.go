// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// delivery is a message of prepares; it is acknowledged when none of its records needs it any more.
type delivery struct {
	msg  jetstream.Msg
	open atomic.Int32
}

// prepared is one record of a delivery.
type prepared struct {
	branch   *Branch
	expires  int64 // as the record says
	delivery *delivery
}

// What the server may send ahead to one instance, in messages and in bytes. Messages that wait here give no signs of life,
// so there must be so few that their turn comes before the server loses its patience.
const (
	aheadMessages = 16
	aheadBytes    = 8 << 20
)

// pullBeat is how often the server says that it still has the request for prepares; after two that were missed it is made again. A server that dies
// takes the requests with it that its consumers were asked by connections to other servers, and nobody says so: until then no prepare comes.
// (The default is half a request's time, 15 s.)
const pullBeat = 2 * time.Second

// take takes the prepares of a shard until leave is called. They come from a durable consumer, which the coordinator made.
func (p *Participant) take(ctx context.Context, shard int, info messages.ShardInfo) (leave func(context.Context), err error) {
	silent := make(chan struct{}, 1)
	consuming, err := p.consume(ctx, shard, info, silent)
	if err != nil {
		p.log.WithError(err).WithField("shard", shard).Warn("prepares are not to be had yet; trying on")
		if consuming, err = p.consumeAgain(ctx, shard, silent); err != nil {
			return nil, err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { consuming = p.watch(ctx, shard, consuming, silent) })
	return func(ctx context.Context) {
		stop()
		watching.Wait()
		consuming.Drain() // what was sent ahead is given back: see onPrepare
		select {
		case <-consuming.Closed():
		case <-ctx.Done():
		}
	}, nil
}

// consume takes prepares, and tells silent when the server has nothing to say about them.
func (p *Participant) consume(ctx context.Context, shard int, info messages.ShardInfo, silent chan<- struct{}) (jetstream.ConsumeContext, error) {
	ctx, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	consumer, err := p.js.Consumer(ctx, info.Stream, info.Consumer)
	if err != nil {
		return nil, err
	}
	return consumer.Consume(func(msg jetstream.Msg) { p.onPrepare(shard, msg) },
		jetstream.PullMaxMessagesWithBytesLimit(aheadMessages, aheadBytes), jetstream.PullHeartbeat(pullBeat),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			p.log.WithError(err).WithField("shard", shard).Debug("taking prepares")
			if errors.Is(err, jetstream.ErrNoHeartbeat) {
				select {
				case silent <- struct{}{}:
				default:
				}
			}
		}))
}

// consumeAgain registers, which makes the consumer anew if it is gone, and goes on until prepares come from there.
func (p *Participant) consumeAgain(ctx context.Context, shard int, silent chan<- struct{}) (jetstream.ConsumeContext, error) {
	for pause := registerPause; ; pause = min(2*pause, registerMaxPause) {
		shards, err := p.register(ctx)
		if err != nil {
			return nil, err
		}
		consuming, err := p.consume(ctx, shard, shards[shard], silent)
		if err == nil {
			return consuming, nil
		}
		p.log.WithError(err).WithField("shard", shard).Debug("taking prepares")
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// watch takes prepares again when the consumer ends by itself: an operator deleted it, or the log is lost. Not always does the
// server say so; when it is silent, registering makes sure that the consumer is there, and the log the same. It returns the
// one that is used when ctx ends.
func (p *Participant) watch(ctx context.Context, shard int, consuming jetstream.ConsumeContext, silent chan struct{}) jetstream.ConsumeContext {
	for {
		var err error
		select {
		case <-ctx.Done():
			return consuming
		case <-silent:
			_, err = p.register(ctx)
		case <-consuming.Closed():
			p.log.WithField("shard", shard).Warn("the consumer of prepares is gone; registering again")
			var again jetstream.ConsumeContext
			if again, err = p.consumeAgain(ctx, shard, silent); err == nil {
				consuming = again
			}
		}
		if err != nil {
			if ctx.Err() == nil {
				p.fail(err)
			}
			return consuming
		}
	}
}

// onPrepare takes a message of prepares. A malformed record is passed over, as by every reader of the log.
func (p *Participant) onPrepare(shard int, msg jetstream.Msg) {
	if p.leaving.Load() {
		p.giveBack(msg)
		return
	}
	crash.Here("participant.prepare.received")
	d := &delivery{msg: msg}
	d.open.Store(1) // this function's own hold
	if meta, err := msg.Metadata(); err == nil {
		p.clock.Saw(meta.Timestamp, time.Now())
	}
	var decoder messages.Decoder
	var records []*prepared
	for line := range messages.Lines(msg.Data()) {
		var record messages.Prepare
		err := decoder.Prepare(line, &record)
		if errors.Is(err, messages.ErrNewerVersion) {
			p.fail(fmt.Errorf("participant %s: shard %d: %w: upgrade this service", p.cfg.Name, shard, err))
			return
		}
		if err != nil || !slices.Contains(record.Participants, p.cfg.Name) {
			p.log.WithError(err).WithField("shard", shard).Warn("a malformed prepare was ignored")
			continue
		}
		branch := &Branch{
			Tx: record.Tx, Operations: record.Operations, Trace: record.Trace, Expires: p.clock.Local(record.Expires),
			Sole: len(record.Participants) == 1, Locks: record.Locks,
		}
		branch.keys, branch.keyed, branch.since = branch.collectKeys(), true, record.Since
		if branch.since == 0 { // of a leader that gives no age
			branch.since = record.Tx.UnixMilli() * 1000
		}
		records = append(records, &prepared{delivery: d, expires: record.Expires, branch: branch})
	}
	d.open.Add(int32(len(records)))
	p.mu.Lock()
	p.inHand[d] = struct{}{}
	p.mu.Unlock()
	p.do(func(b *protocol.Branches, now int64) {
		for _, r := range records {
			b.Prepare(r.branch.Tx, shard, r.expires, now, r)
		}
	})
	p.ack(d)
}

// ack gives back one hold on a delivery; with the last the server hears that it needs no redelivery.
func (p *Participant) ack(d *delivery) {
	if d.open.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	delete(p.inHand, d)
	p.mu.Unlock()
	defer crash.Here("participant.prepare.acked")
	if err := d.msg.Ack(); err != nil {
		p.log.WithError(err).Debug("a prepare was not acknowledged; it comes again")
	}
}

// giveBack makes a message of prepares another instance's at once, instead of when the server has lost its patience.
func (p *Participant) giveBack(msg jetstream.Msg) {
	if err := msg.Nak(); err != nil {
		p.log.WithError(err).Debug("a prepare was not given back; it comes again later")
	}
}

// giveBackAll gives back what is in hand.
func (p *Participant) giveBackAll() {
	for _, d := range p.deliveries() {
		p.giveBack(d.msg)
	}
}

func (p *Participant) deliveries() []*delivery {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.inHand))
}

// signsOfLife tells JetStream that the prepares in hand are being worked on, so that it gives them to nobody else.
func (p *Participant) signsOfLife() {
	for _, d := range p.deliveries() {
		if err := d.msg.InProgress(); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
			p.log.WithError(err).Debug("a sign of life was not sent")
		}
	}
}

// onOutcome takes a message of commits or rollbacks.
func (p *Participant) onOutcome(outcome messages.Outcome, msg *nats.Msg) {
	crash.Here("participant.outcome.received")
	shard, ok := p.subjects.ShardOf(msg.Subject)
	if !ok || msg.Reply == "" {
		return
	}
	var decoder messages.Decoder
	var effects []messages.Effect
	for line := range messages.Lines(msg.Data) {
		var e messages.Effect
		err := decoder.Effect(line, &e)
		if errors.Is(err, messages.ErrNewerVersion) {
			p.fail(fmt.Errorf("participant %s: shard %d: %w: upgrade this service", p.cfg.Name, shard, err))
			return
		}
		if err != nil {
			p.log.WithError(err).Warn("a malformed outcome was ignored")
			continue
		}
		effects = append(effects, e)
	}
	p.do(func(b *protocol.Branches, now int64) {
		for i := range effects {
			b.Outcome(outcome, &effects[i], shard, msg.Reply, now)
		}
	})
}

// onDone hears what this and the participant's other instances answer: a branch that was voted for here may have been
// finished by another instance.
func (p *Participant) onDone(msg *nats.Msg) {
	var decoder messages.Decoder
	foreign := false
	p.do(func(b *protocol.Branches, _ int64) {
		for line := range messages.Lines(msg.Data) {
			var done messages.Done
			if decoder.Done(line, &done) == nil && !done.Working && b.Heard(done.Tx, done.Vote) {
				foreign = true
			}
		}
		foreign = foreign && p.locks.alone()
	})
	if foreign {
		p.log.Error("another instance of this participant is at work, and neither sees which keys the other locks: transactions are not " +
			"isolated. Run one instance, make them nodes of a group, or use a store that locks keys itself and says so (LocksKeys)")
	}
}
