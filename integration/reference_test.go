// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// reference is a second fold, as dumb as can be: what docs/protocol.md says of outcomes, and nothing else. It keeps
// everything, so it cannot read a log whose beginning was trimmed.
type reference struct {
	now int64
	txs map[assent.ID]*referenceTx
}

type referenceTx struct {
	participants []string
	expires      int64
	votes        map[string]messages.Vote
	outcome      assent.Outcome
}

// read folds one message.
func (f *reference) read(at int64, kind messages.Kind, participant string, data []byte) {
	f.now = max(f.now, at)
	for _, tx := range f.txs {
		if tx.outcome == assent.Undecided && f.now > tx.expires {
			tx.outcome = assent.Aborted
		}
	}
	var d messages.Decoder
	for line := range messages.Lines(data) {
		switch kind {
		case messages.KindPrepare:
			var p messages.Prepare
			if d.Prepare(line, &p) == nil && slices.Contains(p.Participants, participant) {
				f.prepare(&p)
			}
		case messages.KindVote:
			var v messages.VoteRecord
			if d.Vote(line, &v) == nil {
				f.vote(participant, &v)
			}
		case messages.KindAbort:
			var a messages.Abort
			if d.Abort(line, &a) == nil {
				f.abort(&a)
			}
		default: // finished decides nothing, and what is unknown is ignored
		}
	}
}

func (f *reference) prepare(p *messages.Prepare) {
	if f.txs[p.Tx] != nil {
		return
	}
	tx := &referenceTx{participants: slices.Clone(p.Participants), expires: p.Expires, votes: make(map[string]messages.Vote)}
	if f.now > tx.expires {
		tx.outcome = assent.Aborted
	}
	f.txs[p.Tx] = tx
}

func (f *reference) abort(a *messages.Abort) {
	if tx := f.txs[a.Tx]; tx != nil && tx.outcome == assent.Undecided {
		tx.outcome = assent.Aborted
	}
}

func (f *reference) vote(participant string, v *messages.VoteRecord) {
	tx := f.txs[v.Tx]
	if tx == nil || tx.outcome != assent.Undecided || !slices.Contains(tx.participants, participant) {
		return
	}
	if v.Vote == messages.VoteNo {
		tx.outcome = assent.Aborted
		return
	}
	tx.votes[participant] = v.Vote
	if len(tx.votes) == len(tx.participants) {
		tx.outcome = assent.Committed
	}
}

// readLog gives the messages of a shard's log, from its first to where it ends now; false when there is no such shard.
func readLog(t testing.TB, nc *nats.Conn, shard int, visit func(msg jetstream.Msg, meta *jetstream.MsgMetadata)) (found bool) {
	t.Helper()
	ctx := within(t, patience)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, messages.Subjects{}.Stream(shard))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	state := stream.CachedInfo().State
	if state.Msgs == 0 {
		return true
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	for at := uint64(0); at < state.LastSeq; {
		left := state.LastSeq - max(at, state.FirstSeq-1) // asking for more would be waiting for it
		batch, err := consumer.Fetch(int(min(500, left)), jetstream.FetchMaxWait(time.Second))
		if err != nil && !errors.Is(err, nats.ErrTimeout) {
			t.Fatal(err)
		}
		for msg := range batch.Messages() {
			meta, err := msg.Metadata()
			if err != nil {
				t.Fatal(err)
			}
			at = meta.Sequence.Stream
			visit(msg, meta)
		}
		if ctx.Err() != nil {
			t.Fatalf("reading the log: at %d of %d", at, state.LastSeq)
		}
	}
	return true
}

// foldLog reads the whole logs of all shards with the reference.
func foldLog(t testing.TB, nc *nats.Conn) *reference {
	t.Helper()
	all := &reference{txs: make(map[assent.ID]*referenceTx)}
	for shard := 0; ; shard++ {
		f := &reference{txs: make(map[assent.ID]*referenceTx)} // each has a time of its own
		found := readLog(t, nc, shard, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) {
			kind, participant := messages.Subjects{}.ParseLog(shard, msg.Subject())
			f.read(meta.Timestamp.UnixMilli(), kind, participant, msg.Data())
		})
		if !found {
			return all
		}
		maps.Copy(all.txs, f.txs)
	}
}
