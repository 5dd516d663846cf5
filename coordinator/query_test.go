// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
)

// The search for a transaction once stopped at the first message of any other.
func TestATransactionBehindOthersIsShown(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	for range 3 {
		tx := messages.NewID()
		if err := nc.Publish(messages.Subjects{}.Submit(0), []byte(submission(tx, "a"))); err != nil {
			t.Fatal(err)
		}
		untilKnown(t, nc, tx)
		var outcome coordinator.OutcomeResponse
		if err := ask(t, nc, "tx.abort", coordinator.TxRequest{Tx: tx}, &outcome); err != nil {
			t.Fatal(err)
		}
		var timeline coordinator.Timeline
		if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
			t.Fatal(err)
		}
		if len(timeline.Records) != 2 || timeline.Records[0].Kind != "prepare" || timeline.Records[1].Kind != "abort" {
			t.Errorf("the timeline has %+v, want a prepare and an abort", timeline.Records)
		}
	}
}

// Prepares that come when their id is not above the floor any more are ignored by every reader of the log, which has who voted yes roll back. Who
// asks is told from the history, of which the floor is no part: it once told a client that such a transaction was committed.
func TestWhatCameTooLateIsNotCommitted(t *testing.T) {
	nc, js := served(t, "a")
	tx := messages.NewID()
	bucket, err := js.KeyValue(t.Context(), messages.Subjects{}.CheckpointsBucket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), "0", fmt.Appendf(nil, `{"sequence":1,"log_time":1,"floor":%d}`, tx.UnixMilli())); err != nil {
		t.Fatal(err)
	}
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	rollbacks, err := nc.SubscribeSync(messages.Subjects{}.Rollback(0, "a"))
	if err != nil {
		t.Fatal(err)
	}
	prepare := messages.AppendPrepare(nil, &messages.Prepare{
		Tx: tx, Participants: []string{"a"}, Expires: time.Now().Add(time.Minute).UnixMilli(), Operations: []messages.Operation{{Payload: []byte(`1`)}},
	})
	if _, err := js.Publish(t.Context(), messages.Subjects{}.Prepare(0, "a"), prepare); err != nil {
		t.Fatal(err)
	}
	vote(t, nc, tx, "a", messages.VoteYes, "")
	if _, err := rollbacks.NextMsg(patience); err != nil {
		t.Fatalf("who voted yes is not told to roll back: %v", err)
	}
	msg, err := nc.Request(messages.Subjects{}.Wait(0), messages.AppendWait(nil, &messages.Wait{Tx: tx}), patience)
	if err != nil {
		t.Fatal(err)
	}
	if a := answer(t, msg); a.Outcome == messages.Committed || a.Error != messages.CodeNotFound || !strings.Contains(a.Message, "too late") {
		t.Errorf("who waits is told %+v", a)
	}
	var timeline coordinator.Timeline
	if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
		t.Fatal(err)
	}
	if timeline.Outcome != messages.Undecided.String() || !strings.Contains(timeline.Reason, "too late") || len(timeline.Records) != 2 {
		t.Errorf("shown is %+v", timeline)
	}
}

// The history is trimmed anywhere, also in the middle of a transaction. What is left of it tells nothing of how it ended: of one that was
// committed, whose first vote is trimmed, and which somebody wanted to abort when it was too late for that, it once told that it was aborted.
func TestTheRestOfATransactionTellsNothing(t *testing.T) {
	nc, js := served(t, "a", "b")
	subjects := messages.Subjects{}
	publish := func(subject string, record []byte) (sequence uint64) {
		t.Helper()
		ack, err := js.Publish(t.Context(), subject, record)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	tx := messages.NewID()
	expires := time.Now().Add(time.Minute).UnixMilli()
	prepare := func(participant string) uint64 {
		return publish(subjects.Prepare(0, participant), messages.AppendPrepare(nil, &messages.Prepare{
			Tx: tx, Participants: []string{"a", "b"}, Expires: expires, Operations: []messages.Operation{{Payload: []byte(`1`)}},
		}))
	}
	prepare("a")
	vote(t, nc, tx, "a", messages.VoteYes, "")
	rest := prepare("b")
	vote(t, nc, tx, "b", messages.VoteYes, "")
	publish(subjects.Abort(0), messages.AppendAbort(nil, &messages.Abort{Tx: tx, Reason: "operator"}))
	last := publish(subjects.Finished(0), messages.AppendFinished(nil, &messages.Finished{Tx: tx, Through: rest + 1}))
	log, err := js.Stream(t.Context(), subjects.Stream(0))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.KeyValue(t.Context(), subjects.CheckpointsBucket())
	if err != nil {
		t.Fatal(err)
	}
	checkpoint := fmt.Appendf(nil, `{"sequence":%d,"log_time":%d,"floor":%d,"through":%d}`, last+1, time.Now().UnixMilli(), tx.UnixMilli(), last)
	if _, err := bucket.Put(t.Context(), "0", checkpoint); err != nil {
		t.Fatal(err)
	}
	if err := log.Purge(t.Context(), jetstream.WithPurgeSequence(rest)); err != nil {
		t.Fatal(err)
	}
	start(t, nc, coordinator.Config{})
	msg, err := nc.Request(subjects.Wait(0), messages.AppendWait(nil, &messages.Wait{Tx: tx}), patience)
	if err != nil {
		t.Fatal(err)
	}
	if a := answer(t, msg); a.Outcome != messages.Undecided || a.Error != messages.CodeNotFound || !strings.Contains(a.Message, "history") {
		t.Errorf("who waits is told %+v", a)
	}
	var timeline coordinator.Timeline
	if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
		t.Fatal(err)
	}
	if timeline.Outcome != messages.Undecided.String() || !strings.Contains(timeline.Reason, "history") || len(timeline.Records) != 4 {
		t.Errorf("shown is %+v", timeline)
	}
	var list coordinator.ListResponse
	if err := ask(t, nc, "tx.list", coordinator.ListRequest{History: true}, &list); err != nil || len(list.Transactions) != 0 {
		t.Errorf("listed are %+v, %v", list.Transactions, err)
	}
}

// After an outage many may ask at once for transactions that ended meanwhile and are forgotten. Each is answered from the log's history, which is
// not read once for each of them.
func TestManyAskForWhatIsForgotten(t *testing.T) {
	nc, js := served(t, "a")
	subjects := messages.Subjects{}
	const known, unknown = 60, 180
	publish := func(subject string, record []byte) uint64 {
		t.Helper()
		ack, err := js.Publish(t.Context(), subject, record)
		if err != nil {
			t.Fatal(err)
		}
		return ack.Sequence
	}
	want := make(map[messages.ID]messages.Answer)
	var last uint64
	var newest messages.ID
	for i := range known {
		tx := messages.NewID()
		newest = tx
		last = publish(subjects.Prepare(0, "a"), messages.AppendPrepare(nil, &messages.Prepare{
			Tx: tx, Participants: []string{"a"}, Expires: time.Now().Add(time.Minute).UnixMilli(),
			Operations: []messages.Operation{{Payload: fmt.Appendf(nil, `{"tx":%q}`, messages.NewID())}},
		}))
		if i%2 == 0 {
			vote(t, nc, tx, "a", messages.VoteYes, "")
			want[tx] = messages.Answer{Tx: tx, Outcome: messages.Committed}
		} else {
			vote(t, nc, tx, "a", messages.VoteNo, "sold out")
			want[tx] = messages.Answer{Tx: tx, Outcome: messages.Aborted, Participant: "a", Reason: "sold out"}
		}
		last = publish(subjects.Finished(0), messages.AppendFinished(nil, &messages.Finished{Tx: tx, Through: last + 1}))
	}
	for range unknown {
		tx := messages.NewID()
		want[tx] = messages.Answer{Tx: tx, Error: messages.CodeNotFound}
	}
	bucket, err := js.KeyValue(t.Context(), subjects.CheckpointsBucket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), "0", fmt.Appendf(nil, `{"sequence":%d,"log_time":%d,"floor":%d,"through":%d}`, last+1, time.Now().UnixMilli(), newest.UnixMilli(), last)); err != nil {
		t.Fatal(err)
	}
	start(t, nc, coordinator.Config{})
	reads, err := nc.SubscribeSync("$JS.API.CONSUMER.CREATE." + subjects.Stream(0) + ".>")
	if err != nil {
		t.Fatal(err)
	}
	answers, err := nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	var waits []byte
	for tx := range want {
		waits = append(messages.AppendWait(waits, &messages.Wait{Tx: tx}), '\n')
	}
	if err := nc.PublishRequest(subjects.Wait(0), answers.Subject, waits); err != nil {
		t.Fatal(err)
	}
	var decoder messages.Decoder
	for len(want) > 0 {
		msg, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatalf("%d of %d are not answered: %v", len(want), known+unknown, err)
		}
		for line := range messages.Lines(msg.Data) {
			var got messages.Answer
			if err := decoder.Answer(line, &got); err != nil {
				t.Fatal(err)
			}
			got.Message = ""
			if w, ok := want[got.Tx]; !ok || got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
			delete(want, got.Tx)
		}
	}
	if n, _, err := reads.Pending(); err != nil || n == 0 || n > (known+unknown)/10 {
		t.Errorf("the log was read %d times for %d, want 5 times; %v", n, known+unknown, err)
	}
}
