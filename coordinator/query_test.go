// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
	nc := server(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
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
