// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks/internal/agent"
)

// gathering holds the first writes of a call for several keys, so that those of one replicated stream go as one atomic
// batch: there that is one round of the Raft group in place of several. Without replicas a batch costs more than its writes
// one by one (docs/locks.md has the figures), and is not used. Nothing depends on the batch's being atomic.
type gathering struct{ writes []pendingWrite }

type pendingWrite struct {
	e *entry
	w *agent.Write
}

func (g *gathering) add(e *entry, w *agent.Write) { g.writes = append(g.writes, pendingWrite{e, w}) }

// maxBatch is how many messages the server takes in one batch, and some less.
const maxBatch = 500

// send sends what has gathered.
func (g *gathering) send(s *Session) {
	batches := make(map[int][]pendingWrite)
	for _, p := range g.writes {
		if stream := p.e.at.stream; s.bucket.batches(stream) && len(batches[stream]) < maxBatch {
			batches[stream] = append(batches[stream], p)
			continue
		}
		s.running.Go(func() { p.e.write(p.w) })
	}
	for stream, batch := range batches {
		if len(batch) == 1 {
			s.running.Go(func() { batch[0].e.write(batch[0].w) })
			continue
		}
		s.running.Go(func() { s.writeBatch(stream, batch) })
	}
}

// writeBatch writes a batch. If the server does not take it, for a conflict of one of them or for any other reason, nothing of
// it was stored, and they go one by one: so the agents hear of nothing that they would not hear otherwise.
func (s *Session) writeBatch(stream int, batch []pendingWrite) {
	ctx, cancel := context.WithTimeout(s.ctx, s.request())
	defer cancel()
	last, refused, err := s.bucket.putBatch(ctx, stream, batch)
	for i, p := range batch {
		switch {
		case refused:
			s.running.Go(func() { p.e.write(p.w) })
		case err != nil:
			p.e.wrote(0, err)
		default:
			p.e.wrote(last-uint64(len(batch)-1-i), nil)
		}
	}
}

// batches tells whether writes of a stream go in batches.
func (b *bucket) batches(stream int) bool {
	cfg := &b.streams[stream].CachedInfo().Config
	return cfg.AllowAtomicPublish && cfg.Replicas > 1
}

// putBatch stores several records at once, each under the condition of its own, and gives the last one's revision. refused:
// the server says that nothing was stored. Otherwise an error is an errUnknown, or an errRemade.
func (b *bucket) putBatch(ctx context.Context, stream int, batch []pendingWrite) (last uint64, refused bool, err error) {
	id, before := newID(), b.newest[stream].Load()
	var reply *nats.Msg
	for i, p := range batch {
		msg := recordMessage(&p.w.Record)
		msg.Subject = p.e.at.subject
		msg.Header.Set("Nats-Batch-Id", id)
		msg.Header.Set("Nats-Batch-Sequence", strconv.Itoa(i+1))
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(p.w.Expected, 10))
		if i < len(batch)-1 {
			err = b.nc.PublishMsg(msg)
		} else {
			msg.Header.Set("Nats-Batch-Commit", "1")
			reply, err = b.nc.RequestMsgWithContext(ctx, msg)
		}
		if err != nil {
			return 0, false, fmt.Errorf("%w: stream %s: %w", errUnknown, b.streamName(stream), err)
		}
	}
	var ack struct {
		Sequence uint64              `json:"seq"`
		Error    *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &ack); err != nil {
		return 0, false, fmt.Errorf("%w: stream %s: %w", errUnknown, b.streamName(stream), err)
	}
	if refused = ack.Error != nil; !refused {
		err = errors.Join(b.acknowledged(stream, ack.Sequence-uint64(len(batch)-1), before), b.acknowledged(stream, ack.Sequence, before))
	}
	return ack.Sequence, refused, err
}
