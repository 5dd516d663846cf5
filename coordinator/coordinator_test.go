// SPDX-License-Identifier: Apache-2.0

package coordinator_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
)

const patience = 20 * time.Second

// server is an embedded NATS server for one test.
func server(t *testing.T) *nats.Conn {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nc.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return nc
}

// start runs a coordinator until stop is called, which gives Run's error, or the test ends.
func start(t *testing.T, nc *nats.Conn, cfg coordinator.Config) (stop func() error) {
	t.Helper()
	cfg.DrainTimeout = max(cfg.DrainTimeout, 200*time.Millisecond) // what a test leaves open is not worth a wait
	c, err := coordinator.New(nc, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-ended
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-c.Ready():
		if err := c.Healthy(); err != nil {
			t.Errorf("ready, but not healthy: %v", err)
		}
	case err := <-ended:
		stopped = true
		t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(patience):
		t.Fatal("not ready")
	}
	return stop
}

// served is a server on which a coordinator has run, with participants.
func served(t *testing.T, participants ...string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc := server(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, nc, coordinator.Config{})
	register(t, nc, participants...)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// ask sends a request to the API and reads the response; the error is the API's.
func ask(t *testing.T, nc *nats.Conn, name string, request, response any) error {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := nc.Request(messages.Subjects{}.API(name), body, patience)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if code := msg.Header.Get(micro.ErrorCodeHeader); code != "" {
		return fmt.Errorf("%s %s", code, msg.Header.Get(micro.ErrorHeader))
	}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		t.Fatalf("%s: %v in %s", name, err, msg.Data)
	}
	return nil
}

func register(t *testing.T, nc *nats.Conn, names ...string) {
	t.Helper()
	for _, name := range names {
		var response messages.RegisterResponse
		if err := ask(t, nc, "register", messages.RegisterRequest{Name: name}, &response); err != nil {
			t.Fatal(err)
		}
	}
}

// submit sends a submission's text and reads the first answer.
func submit(t *testing.T, nc *nats.Conn, text string) messages.Answer {
	t.Helper()
	msg, err := nc.Request(messages.Subjects{}.Submit(0), []byte(text), patience)
	if err != nil {
		t.Fatal(err)
	}
	return answer(t, msg)
}

func answer(t *testing.T, msg *nats.Msg) messages.Answer {
	t.Helper()
	var decoder messages.Decoder
	var a messages.Answer
	for line := range messages.Lines(msg.Data) {
		if err := decoder.Answer(line, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	t.Fatal("an empty answer")
	return a
}

func submission(tx messages.ID, participants ...string) string {
	sub := messages.Submission{Tx: tx}
	for _, name := range participants {
		sub.Operations = append(sub.Operations, messages.Operation{Participant: name, Payload: []byte(`1`)})
	}
	return string(messages.AppendSubmission(nil, &sub))
}

// vote writes a participant's vote straight into the log.
func vote(t *testing.T, nc *nats.Conn, tx messages.ID, participant string, v messages.Vote, reason string) {
	t.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	record := messages.AppendVote(nil, &messages.VoteRecord{Tx: tx, Vote: v, Reason: reason})
	if _, err := js.Publish(t.Context(), messages.Subjects{}.Vote(0, participant), record); err != nil {
		t.Fatal(err)
	}
}

// untilKnown waits until the leader has read a transaction's first prepare.
func untilKnown(t *testing.T, nc *nats.Conn, tx messages.ID) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if err = ask(t, nc, "tx.retry", coordinator.TxRequest{Tx: tx}, &coordinator.RetryResponse{}); err == nil {
			return
		}
	}
	t.Fatalf("%s never reached the log: %v", tx, err)
}

// mintedAt is an id with the time of its minting changed.
func mintedAt(at time.Time) messages.ID {
	id, ms := messages.NewID(), at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	return id
}

func TestSubmissionsThatAreRefused(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	many := make([]string, messages.MaxParticipants+1)
	for i := range many {
		many[i] = fmt.Sprintf("p%d", i)
	}
	id := messages.NewID()
	for name, c := range map[string]struct {
		text  string
		code  messages.Code
		field string
	}{
		"not JSON":              {`transfer 5 to bob`, messages.CodeInvalid, ""},
		"unknown field":         {`{"tx":"` + id.String() + `","operations":[{"participant":"a"}],"color":"red"}`, messages.CodeInvalid, ""},
		"bad id":                {`{"tx":"42","operations":[{"participant":"a"}]}`, messages.CodeInvalid, "tx"},
		"no operations":         {`{"tx":"` + id.String() + `","operations":[]}`, messages.CodeInvalid, "operations"},
		"bad name":              {`{"tx":"` + id.String() + `","operations":[{"participant":"a b"}]}`, messages.CodeInvalid, "operations[0].participant"},
		"timeout":               {`{"tx":"` + id.String() + `","timeout_ms":5,"operations":[{"participant":"a"}]}`, messages.CodeInvalid, "timeout_ms"},
		"too many":              {submission(id, many...), messages.CodeInvalid, "operations"},
		"unknown participant":   {submission(id, "a", "nobody"), messages.CodeUnknownParticipant, "operations[1].participant"},
		"too large":             {`{"tx":"` + id.String() + `","operations":[{"participant":"a","payload":"` + strings.Repeat("x", messages.MaxRecord) + `"}]}`, messages.CodeTooLarge, ""},
		"id of an hour ago":     {submission(mintedAt(time.Now().Add(-time.Hour)), "a"), messages.CodeOutsideWindow, "tx"},
		"id of the future":      {submission(mintedAt(time.Now().Add(time.Hour)), "a"), messages.CodeOutsideWindow, "tx"},
		"an empty message":      {"", messages.CodeInvalid, ""},
		"too many in a message": {strings.Repeat("{}\n", messages.MaxRecords+1), messages.CodeInvalid, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := submit(t, nc, c.text)
			if got.Error != c.code || (c.field != "" && got.Field != c.field) || got.Message == "" {
				t.Errorf("got %+v, want %s for %q", got, c.code, c.field)
			}
		})
	}
	// Nobody else was disturbed, and nothing of it reached the log.
	var list coordinator.ListResponse
	if err := ask(t, nc, "tx.list", coordinator.ListRequest{History: true}, &list); err != nil || len(list.Transactions) != 0 {
		t.Errorf("the log has %+v, %v; want nothing", list.Transactions, err)
	}
}

func TestOneBadSubmissionDisturbsNoOther(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	good := messages.NewID()
	body := "garbage\n" + submission(good, "a") + "\n" + submission(messages.NewID(), "nobody") + "\n"
	if err := nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, []byte(body)); err != nil {
		t.Fatal(err)
	}
	first, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(first.Data), "\n"); got != 2 {
		t.Errorf("%d answers in %s, want 2", got, first.Data)
	}
	untilKnown(t, nc, good)
	vote(t, nc, good, "a", messages.VoteReadOnly, "")
	second, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(t, second); got.Tx != good || got.Outcome != messages.Committed {
		t.Errorf("got %+v, want %s committed", got, good)
	}
}

func TestOpenTransactionsAreBounded(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{MaxOpen: 2})
	register(t, nc, "a")
	ids := []messages.ID{messages.NewID(), messages.NewID(), messages.NewID()}
	inbox := nc.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if err := nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, []byte(submission(id, "a"))); err != nil {
			t.Fatal(err)
		}
	}
	msg, err := answers.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if got := answer(t, msg); got.Tx != ids[2] || got.Error != messages.CodeOverloaded {
		t.Fatalf("got %+v, want the third overloaded", got)
	}
	untilKnown(t, nc, ids[0])
	vote(t, nc, ids[0], "a", messages.VoteNo, "not today")
	if msg, err = answers.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	if got := answer(t, msg); got.Tx != ids[0] || got.Outcome != messages.Aborted || got.Participant != "a" || got.Reason != "not today" {
		t.Errorf("got %+v, want the first aborted by a", got)
	}
	// A refusal leaves nothing to be finished: there is room again.
	untilKnown(t, nc, ids[1])
	vote(t, nc, ids[1], "a", messages.VoteReadOnly, "")
	if _, err = answers.NextMsg(patience); err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(messages.Subjects{}.Submit(0), inbox, []byte(submission(ids[2], "a"))); err != nil {
		t.Fatal(err)
	}
	untilKnown(t, nc, ids[2])
}

func TestAbortShowAndRetry(t *testing.T) {
	nc := server(t)
	start(t, nc, coordinator.Config{})
	register(t, nc, "a", "b")
	tx := messages.NewID()
	reply := nc.NewInbox()
	answers, err := nc.SubscribeSync(reply)
	if err != nil {
		t.Fatal(err)
	}
	rollbacks, err := nc.SubscribeSync(messages.Subjects{}.Rollbacks("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest(messages.Subjects{}.Submit(0), reply, []byte(submission(tx, "a", "b"))); err != nil {
		t.Fatal(err)
	}
	var outcome coordinator.OutcomeResponse
	var timeline coordinator.Timeline
	untilKnown(t, nc, tx)
	for deadline := time.Now().Add(patience); len(timeline.Records) < 2 && time.Now().Before(deadline); { // the second prepare may come after that
		timeline = coordinator.Timeline{}
		if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(t, nc, "tx.abort", coordinator.TxRequest{Tx: tx, Reason: "by hand"}, &outcome); err != nil {
		t.Fatal(err)
	}
	if outcome.Outcome != "aborted" || outcome.Reason != "by hand" {
		t.Errorf("got %+v, want aborted by hand", outcome)
	}
	if msg, err := answers.NextMsg(patience); err != nil || answer(t, msg).Outcome != messages.Aborted {
		t.Errorf("the client was not told: %v", err)
	}
	if _, err := rollbacks.NextMsg(patience); err != nil {
		t.Fatalf("no rollback: %v", err)
	}
	var retried coordinator.RetryResponse
	if err := ask(t, nc, "tx.retry", coordinator.TxRequest{Tx: tx}, &retried); err != nil || len(retried.Sent) != 2 {
		t.Errorf("retry gave %+v, %v; want both participants", retried, err)
	}
	again, err := rollbacks.NextMsg(patience)
	if err != nil {
		t.Fatalf("no second rollback: %v", err)
	}
	// Both say done; then the transaction is finished, and its timeline says so.
	for _, name := range []string{"a", "b"} {
		done := messages.AppendDone(nil, &messages.Done{Tx: tx, Heuristic: map[string]string{"b": "rolled forward by hand"}[name]})
		if err := nc.Publish(messages.Subjects{}.Done(0, name), done); err != nil {
			t.Fatal(err)
		}
	}
	if want := (messages.Subjects{}).Done(0, "a"); again.Reply != want {
		t.Errorf("reply %s, want %s", again.Reply, want)
	}
	for deadline := time.Now().Add(patience); !timeline.Finished && time.Now().Before(deadline); {
		timeline = coordinator.Timeline{}
		if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: tx}, &timeline); err != nil {
			t.Fatal(err)
		}
	}
	var kinds []string
	for _, r := range timeline.Records {
		kinds = append(kinds, r.Kind)
	}
	if got := strings.Join(kinds, " "); got != "prepare prepare abort finished" { //nolint:dupword // one for each participant
		t.Errorf("the timeline is %q, want two prepares, abort, finished", got)
	}
	if last := timeline.Records[len(timeline.Records)-1]; !strings.Contains(string(last.Record), "rolled forward by hand") {
		t.Errorf("the heuristic is not in %s", last.Record)
	}
	if err := ask(t, nc, "tx.show", coordinator.TxRequest{Tx: messages.NewID()}, &timeline); err == nil || !strings.HasPrefix(err.Error(), "404") {
		t.Errorf("an unknown transaction gave %v, want 404", err)
	}
}

func TestUnsafeStreamsAreRefused(t *testing.T) {
	nc, js := served(t)
	stream, err := js.Stream(t.Context(), messages.Subjects{}.Stream(0))
	if err != nil {
		t.Fatal(err)
	}
	good := stream.CachedInfo().Config
	for setting, change := range map[string]func(*jetstream.StreamConfig){
		"discard":  func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
		"max age":  func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"--shards": func(c *jetstream.StreamConfig) { c.Metadata = map[string]string{"assent-shards": "9"} },
	} {
		bad := good
		change(&bad)
		if _, err := js.UpdateStream(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
		if err := refusal(t, nc); !errors.Is(err, coordinator.ErrStreamSettings) || !strings.Contains(err.Error(), setting) {
			t.Errorf("got %v, want ErrStreamSettings that names %s", err, setting)
		}
	}
}

// refusal is why a coordinator does not run.
func refusal(t *testing.T, nc *nats.Conn) error {
	t.Helper()
	c, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { t.Error("it runs") })
	defer stop()
	return c.Run(ctx)
}

// The buckets are held against the settings that they were made with, as the log is; what does not matter may be changed.
func TestUnsafeBucketsAreRefused(t *testing.T) {
	nc, js := served(t)
	type config = jetstream.StreamConfig
	changes := map[string]func(*config){ // the others are those of any stream: see internal/streams
		"allow direct":             func(c *config) { c.AllowDirect = true },
		"storage":                  func(c *config) { c.Storage = jetstream.MemoryStorage },
		"max age":                  func(c *config) { c.MaxAge = time.Hour },
		"discard":                  func(c *config) { c.Discard = jetstream.DiscardOld },
		"persist mode":             func(c *config) { c.PersistMode = jetstream.AsyncPersistMode },
		"max messages per subject": func(c *config) { c.MaxMsgsPerSubject = 5 },
		"mirror or sources":        func(c *config) { c.Sources = []*jetstream.StreamSource{{Name: "source"}} },
		"subjects":                 func(c *config) { c.Subjects = append(c.Subjects, "another") },
		"allow message TTL":        func(c *config) { c.AllowMsgTTL = true },
		"allow rollup":             func(c *config) { c.AllowRollup = false },
		"deny purge":               func(c *config) { c.AllowRollup, c.DenyPurge = false, true },
	}
	for _, name := range []string{messages.Subjects{}.CheckpointsBucket(), messages.Subjects{}.ParticipantsBucket()} {
		stream, err := js.Stream(t.Context(), "KV_"+name)
		if err != nil {
			t.Fatal(err)
		}
		good := stream.CachedInfo().Config
		made := func(cfg config) {
			t.Helper()
			if err := js.DeleteStream(t.Context(), good.Name); err != nil {
				t.Fatal(err)
			}
			if _, err := js.CreateStream(t.Context(), cfg); err != nil { // not all of them can be changed later
				t.Fatal(err)
			}
		}
		for setting, change := range changes {
			bad := good
			change(&bad)
			made(bad)
			err := refusal(t, nc)
			if !errors.Is(err, coordinator.ErrStreamSettings) || !strings.Contains(err.Error(), setting+" is ") || !strings.Contains(err.Error(), "`nats stream edit "+good.Name+"`") {
				t.Errorf("%s of %s: got %v, want ErrStreamSettings that names it", setting, name, err)
			}
		}
		harmless := good
		harmless.Description, harmless.MaxBytes, harmless.Duplicates, harmless.DenyDelete = "ours", 1<<20, time.Minute, false
		made(harmless)
	}
	start(t, nc, coordinator.Config{})
	register(t, nc, "a")
}

func TestALogThatLostDataIsNotLed(t *testing.T) {
	t.Parallel()
	nc := server(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, nc, coordinator.Config{})
	register(t, nc, "a")
	tx := messages.NewID()
	if err := nc.Publish(messages.Subjects{}.Submit(0), []byte(submission(tx, "a"))); err != nil {
		t.Fatal(err)
	}
	untilKnown(t, nc, tx)
	vote(t, nc, tx, "a", messages.VoteReadOnly, "")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(t.Context(), messages.Subjects{}.Stream(0)); err != nil {
		t.Fatal(err)
	}
	// The checkpoint is at the first prepare: an empty log that begins at 1 is not behind it. One that is says so.
	bucket, err := js.KeyValue(t.Context(), messages.Subjects{}.CheckpointsBucket())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bucket.Put(t.Context(), "0", []byte(`{"sequence":17,"log_time":1,"floor":0}`)); err != nil {
		t.Fatal(err)
	}
	c, err := coordinator.New(nc, coordinator.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, coordinator.ErrLogLost) {
		t.Errorf("got %v, want ErrLogLost", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]coordinator.Config{
		"Prefix": {Prefix: "a b"}, "Shards": {Shards: -1}, "Replicas": {Replicas: 2}, "History": {History: -1}, "MaxOpen": {MaxOpen: 1 << 20},
	} {
		if _, err := coordinator.New(nil, cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
	}
}
