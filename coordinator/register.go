// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
)

// What a participant's consumers allow: how long a prepare may be in hand without a sign of life, and how many messages
// of prepares. The SDK gives one every second. What an instance had in hand when it was killed waits for as long as this, so it
// is short: a prepare that comes again for nothing is harmless. What waits for keys is in hand, too; an instance lets no more
// branches wait than half the window, so that those who wait for a key never keep others from being delivered.
const (
	prepareAckWait = 3 * time.Second
	prepareWindow  = 32_768
)

// register makes a participant known and its consumers ready: it needs no right to administer JetStream. The consumers come
// before the name: a transaction is accepted only for a participant that will be asked.
func (c *Coordinator) register(ctx context.Context, req *messages.RegisterRequest) (any, error) {
	if !messages.ValidName(req.Name) {
		return nil, badRequest("name %.80q: want 1 to %d of [A-Za-z0-9_-]", req.Name, messages.MaxName)
	}
	if err := c.registry.admit(req.Name); err != nil {
		return nil, badRequest("%v", err)
	}
	response := &messages.RegisterResponse{}
	for _, l := range c.leaders {
		info, err := l.openConsumer(ctx, req.Name)
		if err != nil {
			return nil, err
		}
		response.Shards = append(response.Shards, info)
	}
	c.tellNewest(ctx, req.Name, response.Shards)
	if err := c.registry.put(ctx, req.Name, req.Instance); err != nil {
		return nil, err
	}
	c.cfg.Log.WithFields(logrus.Fields{"participant": req.Name, "instance": req.Instance}).Info("registered")
	return response, nil
}

func (l *leader) openConsumer(ctx context.Context, participant string) (messages.ShardInfo, error) {
	want := jetstream.ConsumerConfig{
		Durable:       participant,
		Description:   "Assent: prepares for " + participant,
		FilterSubject: l.subjects.Prepare(l.shard, participant),
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       prepareAckWait,
		MaxDeliver:    -1,
		MaxAckPending: prepareWindow,
	}
	consumer, err := l.stream.Consumer(ctx, participant)
	if err == nil && consumer.CachedInfo().Config.MaxAckPending < prepareWindow { // of an older coordinator
		have := consumer.CachedInfo().Config
		have.MaxAckPending = prepareWindow
		_, err = l.stream.UpdateConsumer(ctx, have)
	}
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		// Nothing before the checkpoint matters any more to anyone.
		var at protocol.Checkpoint
		if err := l.inLeader(ctx, func() { at = l.fold.Checkpoint() }); err != nil {
			return messages.ShardInfo{}, err
		}
		want.DeliverPolicy, want.OptStartSeq = jetstream.DeliverByStartSequencePolicy, max(at.Sequence, 1)
		_, err = l.stream.CreateConsumer(ctx, want)
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another instance registers at the same moment
		}
	}
	if err != nil {
		return messages.ShardInfo{}, fmt.Errorf("consumer of %s on shard %d: %w", participant, l.shard, err)
	}
	info, err := l.stream.Info(ctx)
	if err == nil && !streams.OfNow(info) { // by its end the participant may find that the log has lost data
		err = streams.ErrOfThePast
	}
	if err != nil {
		return messages.ShardInfo{}, fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	return messages.ShardInfo{
		Stream: info.Config.Name, Consumer: participant,
		Incarnation: info.Created.UTC().Format(time.RFC3339Nano), LastSequence: info.State.LastSeq,
	}, nil
}

// strictJSON reads exactly one JSON value without unknown fields.
func strictJSON(data []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return err
	}
	if decoder.More() {
		return errors.New("bytes after the JSON object")
	}
	return nil
}
