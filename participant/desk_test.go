// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/messages"
)

// desk registers participants as a coordinator does, and says of the log what a test wants. Nobody leads.
type desk struct {
	w         *world
	js        jetstream.JetStream
	responses chan func(*messages.RegisterResponse) // what the next registrations are told; nil when it is the truth
	asked     chan struct{}
	votes     chan messages.VoteRecord
}

var subjects messages.Subjects

func (w *world) openDesk() *desk {
	w.Helper()
	d := &desk{
		w: w, responses: make(chan func(*messages.RegisterResponse), 16), asked: make(chan struct{}, 1024),
		votes: make(chan messages.VoteRecord, 1024),
	}
	var err error
	d.js, err = jetstream.New(w.nc)
	must(w, err)
	d.makeLog()
	_, err = w.connect().Subscribe(subjects.API("register"), func(msg *nats.Msg) { d.register(msg) })
	must(w, err)
	var decoder messages.Decoder
	_, err = w.nc.Subscribe("assent.log.0.vote.*", func(msg *nats.Msg) {
		for line := range messages.Lines(msg.Data) {
			var vote messages.VoteRecord
			if err := decoder.Vote(line, &vote); err != nil {
				w.Errorf("vote %q: %v", line, err)
			}
			d.votes <- vote
		}
	})
	must(w, err)
	return d
}

func (d *desk) makeLog() {
	d.w.Helper()
	_, err := d.js.CreateStream(d.w.Context(), jetstream.StreamConfig{Name: subjects.Stream(0), Subjects: []string{subjects.Log(0)}})
	must(d.w, err)
}

func (d *desk) register(msg *nats.Msg) {
	var request messages.RegisterRequest
	if err := json.Unmarshal(msg.Data, &request); err != nil {
		d.w.Errorf("registration %q: %v", msg.Data, err)
	}
	stream, err := d.js.Stream(d.w.Context(), subjects.Stream(0))
	if err != nil {
		d.refuse(msg, "500", err.Error())
		return
	}
	if _, err := stream.CreateOrUpdateConsumer(d.w.Context(), jetstream.ConsumerConfig{
		Durable: request.Name, FilterSubject: subjects.Prepare(0, request.Name), AckPolicy: jetstream.AckExplicitPolicy,
		MaxAckPending: 32_768, // as a coordinator makes it
	}); err != nil {
		d.refuse(msg, "500", err.Error())
		return
	}
	info := stream.CachedInfo()
	response := &messages.RegisterResponse{Shards: []messages.ShardInfo{{
		Stream: info.Config.Name, Consumer: request.Name,
		Incarnation: info.Created.UTC().Format(time.RFC3339Nano), LastSequence: info.State.LastSeq,
	}}}
	select {
	case say := <-d.responses:
		say(response)
	default:
	}
	body, err := json.Marshal(response)
	if err != nil {
		d.w.Error(err)
	}
	if err := msg.Respond(body); err != nil {
		d.w.Error(err)
	}
	d.asked <- struct{}{}
}

func (d *desk) refuse(msg *nats.Msg, code, reason string) {
	reply := nats.NewMsg(msg.Reply)
	reply.Header.Set(micro.ErrorCodeHeader, code)
	reply.Header.Set(micro.ErrorHeader, reason)
	if err := msg.RespondMsg(reply); err != nil {
		d.w.Error(err)
	}
	d.asked <- struct{}{}
}

// prepare puts prepares into the log, as raw lines.
func (d *desk) prepare(name string, lines ...string) {
	d.w.Helper()
	var body []byte
	for _, line := range lines {
		body = append(append(body, line...), '\n')
	}
	_, err := d.js.Publish(d.w.Context(), subjects.Prepare(0, name), body)
	must(d.w, err)
}

func line(tx messages.ID, name string, expires time.Duration) string {
	return string(messages.AppendPrepare(nil, &messages.Prepare{
		Tx: tx, Participants: []string{name}, Expires: time.Now().Add(expires).UnixMilli(),
		Operations: []messages.Operation{{Payload: []byte(`1`)}},
	}))
}

// vote waits for the next vote.
func (d *desk) vote(tx messages.ID, vote messages.Vote) messages.VoteRecord {
	d.w.Helper()
	got := receive(d.w, d.votes, "a vote")
	if got.Tx != tx || got.Vote != vote {
		d.w.Errorf("vote %+v, want %v for %s", got, vote, tx)
	}
	return got
}

// acknowledged waits until the server waits for nothing from the consumer.
func (d *desk) acknowledged(name string) {
	d.w.Helper()
	eventually(d.w, "every prepare is acknowledged", func() bool {
		consumer, err := d.js.Consumer(d.w.Context(), subjects.Stream(0), name)
		must(d.w, err)
		info := consumer.CachedInfo()
		return info.NumAckPending == 0 && info.NumPending == 0
	})
}
