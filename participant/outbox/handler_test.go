// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/participant"
)

func TestCommitPublishesAndRollbackDoesNot(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	committed, aborted := branch(t, text("orders.1", "a"), text("orders.2", "b")), branch(t, text("orders.3", "c"))
	d.prepare(committed)
	d.prepare(aborted)
	d.wantStored("ORDERS")
	must(t, d.finish(committed, true))
	must(t, d.finish(aborted, false))
	d.wantStored("ORDERS", "a", "b")
	must(t, d.finish(committed, true)) // and again
	must(t, d.finish(aborted, false))
	d.wantStored("ORDERS", "a", "b")
	if open := d.journal.Stats().Open; open != 0 || len(d.open) != 0 {
		t.Errorf("%d entries are open, %d in memory", open, len(d.open))
	}
}

// What the message says is published as it is, and nothing beside it but the outbox's id.
func TestHeadersAndDataAreKept(t *testing.T) {
	d := newDesk(t)
	cfg := orders()
	cfg.AllowMsgTTL, cfg.AllowRollup = true, true
	d.stream(cfg)
	binary := Message{Subject: "orders.x", Data: []byte{0, 0xff, '\n', '"'}, Stream: "ORDERS", Header: nats.Header{
		"Kind": {"first", "second"}, "lower-case": {"ü"}, "Nats-TTL": {"1h"}, "Nats-Rollup": {"sub"},
	}}
	b := branch(t, binary)
	d.prepare(b)
	d.crash() // what is in the journal is the same
	must(t, d.finish(b, true))
	stream, err := d.streams.Stream(t.Context(), "ORDERS")
	must(t, err)
	m, err := stream.GetLastMsgForSubject(t.Context(), "orders.x")
	must(t, err)
	if string(m.Data) != string(binary.Data) {
		t.Errorf("data is %q", m.Data)
	}
	want := nats.Header{nats.MsgIdHdr: {b.Tx.String() + ".outbox.0"}, nats.ExpectedStreamHdr: {"ORDERS"}}
	for name, values := range binary.Header {
		want[name] = values
	}
	for name, values := range want {
		if strings.Join(m.Header[name], "|") != strings.Join(values, "|") {
			t.Errorf("header %s is %q, want %q", name, m.Header[name], values)
		}
	}
	if len(m.Header) != len(want) {
		t.Errorf("headers are %v", m.Header)
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	small := jetstream.StreamConfig{Name: "SMALL", Subjects: []string{"small.*"}, MaxMsgSize: 200}
	full := jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full.*"}, Discard: jetstream.DiscardNew, MaxMsgs: 1}
	bytes := jetstream.StreamConfig{Name: "BYTES", Subjects: []string{"bytes.*"}, Discard: jetstream.DiscardNew, MaxBytes: 10_000}
	subjects := jetstream.StreamConfig{
		Name: "SUBJECTS", Subjects: []string{"subjects.*"}, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
	}
	silent := jetstream.StreamConfig{Name: "SILENT", Subjects: []string{"silent"}, NoAck: true}
	for _, cfg := range []jetstream.StreamConfig{small, full, bytes, subjects, silent} {
		d.stream(cfg)
	}
	for _, subject := range []string{"full.a", "subjects.a"} {
		_, err := d.streams.Publish(t.Context(), subject, nil)
		must(t, err)
	}
	long := strings.Repeat("x", 200)
	header := func(name, value string) Message {
		return Message{Subject: "orders.a", Header: nats.Header{name: {value}}}
	}
	for _, test := range []struct {
		message Message
		reason  string
	}{
		{text("invoices.a", ""), "subject invoices.a: no stream takes it"},
		{text("small", ""), "subject small: no stream takes it"},
		{text("", ""), "no subject"},
		{text("orders..a", ""), "empty token"},
		{text("orders.", ""), "empty token"},
		{text("orders.*", ""), "wildcard"},
		{text("orders.>", ""), "wildcard"},
		{text("orders a", ""), "white space"},
		{text("orders.a\x00", ""), "control characters"},
		{text("orders."+strings.Repeat("a", 1024), ""), "subject of 1031 bytes: at most 1024"},
		{text("assent.log.0.abort", ""), "assent. is reserved"},
		{text("assent", ""), "assent. is reserved"},
		{text("$JS.API.STREAM.DELETE.ORDERS", ""), "begin with $ are reserved"},
		{text("$SYS.REQ.USER.INFO", ""), "begin with $ are reserved"},
		{text("$KV.bucket.key", ""), "is a bucket's"},
		{Message{Subject: "$JS.API.INFO", Bucket: true}, "begin with $ are reserved"},
		{Message{Subject: "$KV.bucket.key", Bucket: true}, "no stream takes it"},
		{Message{Subject: "orders.a", Stream: "INVOICES"}, "stream ORDERS takes the subject, and not INVOICES"},
		{Message{Subject: "orders.a", Stream: "ORDERS", Core: true}, "leave out core or stream"},
		{header("Nats-Msg-Id", "mine"), "header Nats-Msg-Id: of those"},
		{header("nats-expected-last-sequence", "7"), "header nats-expected-last-sequence: of those"},
		{header("Nats-TTL", "1h"), "does not allow Nats-TTL"},
		{header("Nats-TTL", "1ms"), `"1ms": want never, or a time of at least 1s`},
		{header("Nats-Rollup", "sub"), "does not allow Nats-Rollup"},
		{header("Nats-Rollup", "some"), `"some": want sub or all`},
		{header("a b", ""), `header "a b"`},
		{header("", ""), `header ""`},
		{header("A", "x\r\nB: y"), "line breaks"},
		{header("A", " x"), "white space round it"},
		{header("A", strings.Repeat("x", 70_000)), "header of 70077 bytes: at most 65535"},
		{text("orders.a", strings.Repeat("x", 1<<20)), "the server's max_payload is 1048576"},
		{text("small.a", long), "stream SMALL takes messages of at most 200 bytes"},
		{text("full.b", ""), "stream FULL is full: 1 messages of 1"},
		{text("bytes.b", strings.Repeat("x", 20_000)), "stream BYTES is full: 0 bytes of 10000"},
		{text("subjects.a", ""), "stream SUBJECTS is full: 1 messages of 1 for subjects.a"},
		{text("silent", ""), "stream SILENT acknowledges nothing"},
	} {
		d.wantRefusal(branch(t, test.message), test.reason)
		d.wantRefusal(branch(t, text("orders.good", ""), test.message), "operation 1: ") // all or nothing
	}
	for _, good := range []Message{text("subjects.b", ""), text("small.a", ""), header("Nats", "x"), text("orders.a*.>b.*c", ""), {Subject: "assents.a", Core: true}} {
		d.prepare(branch(t, good))
	}
	unknown := branch(t, Message{})
	for payload, reason := range map[string]string{
		`{"subject":"orders.a","topic":"x"}`:              `unknown field "topic"`,
		`{"subject":"orders.a","text":"x","data":"eA=="}`: `"text" and "data" exclude each other`,
		`[]`: "cannot unmarshal array",
		``:   "operation 0 has no payload",
	} {
		unknown.Operations[0].Payload = []byte(payload)
		d.wantRefusal(unknown, reason)
	}
}

// What cannot be asked for now is no refusal: the SDK asks again.
func TestPrepareWithoutServer(t *testing.T) {
	d := newDesk(t)
	d.nc.Close()
	r := d.PrepareBatch(t.Context(), []*participant.Branch{branch(t, text("orders.a", ""))})[0]
	if r.Err == nil || errors.Is(r.Err, participant.ErrRefused) {
		t.Errorf("prepare: %v, %v; want an error that is no refusal", r.Vote, r.Err)
	}
}

// deaf loses the first answer to each question about streams, as when the server that was asked dies.
type deaf struct {
	jetstream.JetStream
	lost map[string]bool
}

func (d *deaf) loses(ctx context.Context, question string) bool {
	if d.lost[question] {
		return false
	}
	d.lost[question] = true
	<-ctx.Done()
	return true
}

func (d *deaf) StreamNameBySubject(ctx context.Context, subject string) (string, error) {
	if d.loses(ctx, "name") {
		return "", ctx.Err()
	}
	return d.JetStream.StreamNameBySubject(ctx, subject)
}

func (d *deaf) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	if d.loses(ctx, "stream") {
		return nil, ctx.Err()
	}
	return d.JetStream.Stream(ctx, name)
}

// A question whose answer is lost is asked again, long before the call's time is over: all branches of the batch wait for it.
func TestPrepareWhileAnswersAreLost(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	lossy := &deaf{d.handler.streams.js, make(map[string]bool)}
	d.handler.streams.js = lossy
	d.prepare(branch(t, text("orders.a", "a")))
	if len(lossy.lost) != 2 {
		t.Errorf("lost: %v", lossy.lost)
	}
}

// A core message goes to who listens, when the transaction commits and not before.
func TestCoreMessage(t *testing.T) {
	d := newDesk(t)
	sub, err := d.connect().SubscribeSync("news.>")
	must(t, err)
	must(t, sub.SetPendingLimits(-1, -1))
	nc := d.connect()
	must(t, nc.Flush())
	aborted := branch(t, Message{Subject: "news.never", Core: true})
	committed := branch(t, Message{Subject: "news.a", Core: true, Data: []byte("first")}, Message{Subject: "news.b", Core: true})
	d.prepare(aborted)
	d.prepare(committed)
	must(t, d.finish(aborted, false))
	must(t, d.finish(committed, true))
	for i, subject := range []string{"news.a", "news.b"} {
		m, err := sub.NextMsgWithContext(soon(t))
		must(t, err)
		if m.Subject != subject || m.Header.Get(nats.MsgIdHdr) != messageID(committed.Tx, "outbox", i) {
			t.Errorf("heard %s with %v, want %s", m.Subject, m.Header, subject)
		}
	}
}

// The messages of a transaction are stored in their order, also where one of them has to wait.
func TestOrderWithinATransaction(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	d.stream(jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, Discard: jetstream.DiscardNew, MaxMsgs: 1})
	b := branch(t, text("orders.a", "0"), text("full", ""), text("orders.a", "1"), text("orders.b", "2"))
	d.prepare(b)
	_, err := d.streams.Publish(t.Context(), "full", nil) // after the yes
	must(t, err)
	other := branch(t, text("orders.c", "other"))
	d.prepare(other)
	errs := d.FinishBatch(t.Context(), []participant.Outcome{{Tx: b.Tx, Commit: true}, {Tx: other.Tx, Commit: true}})
	if errs[0] == nil || !strings.Contains(errs[0].Error(), "publish full to stream FULL: nats: API error") || errs[1] != nil {
		t.Errorf("errors are %v: want one about the full stream, and none for the other transaction", errs)
	}
	d.wantStored("ORDERS", "0", "other")
	if s := d.publisher.stats.snapshot(); s.Stuck != 1 || s.Published != 2 {
		t.Errorf("stats are %+v; want one that is stuck", s)
	}
	full, err := d.streams.Stream(t.Context(), "FULL")
	must(t, err)
	must(t, full.Purge(t.Context()))
	d.commit(b)
	d.wantStored("ORDERS", "0", "other", "1", "2")
	if s := d.publisher.stats.snapshot(); s.Stuck != 0 || s.Published != 5 || s.Unsure != 0 {
		t.Errorf("stats are %+v", s)
	}
}

// A batch is one append to the journal for its prepares, and one for its outcomes.
func TestBatches(t *testing.T) {
	d := newDesk(t)
	d.stream(orders())
	const n = 300
	var branches []*participant.Branch
	var outcomes []participant.Outcome
	for _, data := range numbered(n) {
		b := branch(t, text("orders.a", data))
		branches, outcomes = append(branches, b), append(outcomes, participant.Outcome{Tx: b.Tx, Commit: true})
	}
	sequence := func() uint64 {
		stream, err := d.streams.Stream(t.Context(), "assent-journal-outbox")
		must(t, err)
		return stream.CachedInfo().State.LastSeq
	}
	before := sequence()
	for i, r := range d.PrepareBatch(t.Context(), branches) {
		if r.Vote != participant.Yes {
			t.Fatalf("branch %d: %v", i, r.Err)
		}
	}
	must(t, errors.Join(d.FinishBatch(t.Context(), outcomes)...))
	if appended := sequence() - before; appended > 6 {
		t.Errorf("%d messages in the journal for %d branches", appended, n)
	}
	d.wantStored("ORDERS", numbered(n)...)
}

func TestElapsedSeesASetClock(t *testing.T) {
	slept := time.Now().Add(-time.Hour) // monotonic and wall clock
	if e := elapsed(slept); e < time.Hour || e > 2*time.Hour {
		t.Errorf("elapsed is %v", e)
	}
	wall := time.Now().Round(0).Add(-time.Hour)
	if e := elapsed(wall); e < time.Hour || e > 2*time.Hour {
		t.Errorf("elapsed is %v", e)
	}
}
