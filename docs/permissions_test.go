// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/locks"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

const (
	authorizationBegin = "<!-- authorization:begin -->\n```text\n"
	authorizationEnd   = "```\n<!-- authorization:end -->\n"
)

// guarded runs a nats-server with the authorization block of protocol.md, and gives what connects one of its users.
func guarded(t *testing.T) (connect func(user string, options ...nats.Option) *nats.Conn) {
	t.Helper()
	for _, user := range []string{"COORDINATOR", "BANK_A", "BANK_B", "CLIENT", "OPERATOR"} {
		t.Setenv(user+"_PASSWORD", "secret")
	}
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), authorizationBegin)
	block, _, ended := strings.Cut(rest, authorizationEnd)
	if !found || !ended {
		t.Fatalf("%s lacks the authorization block", document)
	}
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true}
	if err := options.ProcessConfigString(block); err != nil {
		t.Fatal(err)
	}
	options.StoreDir = t.TempDir()
	if !options.SyncAlways || !options.JetStream {
		t.Error("the block does not turn JetStream and sync always on")
	}
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	return func(user string, more ...nats.Option) *nats.Conn {
		return dial(t, s.ClientURL(), user, append(more, nats.UserInfo(user, "secret"))...)
	}
}

// handler says yes to everything and tells what was committed.
type handler chan messages.ID

func (h handler) Prepare(context.Context, *participant.Branch) (participant.Vote, error) {
	return participant.Yes, nil
}
func (h handler) Commit(_ context.Context, tx messages.ID) error { h <- tx; return nil }
func (h handler) Rollback(context.Context, messages.ID) error    { return nil }

// InDoubt: it holds nothing beyond its life, so it may be given keys.
func (h handler) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

// TestPermissions: with the document's permissions everyone can do their work, in raw NATS and with the SDK.
func TestPermissions(t *testing.T) {
	connect := guarded(t)
	fail := nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("%s: %v", nc.Opts.Name, err) })
	lead(t, connect("coordinator", fail))
	raw := &bank{name: "bank-a", nc: connect("bank-a", fail), store: newStore(), refuse: overdrawn}
	open(t, raw)
	commits := make(handler, 4)
	p, err := participant.New(connect("bank-b", fail), participant.Config{Name: "bank-b", Handler: commits})
	if err != nil {
		t.Fatal(err)
	}
	background(t, p.Run, p.Ready())
	client, err := assent.New(connect("client", fail), assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tx := client.Begin()
	tx.Enlist("bank-a", map[string]int{"add": -5})
	tx.Enlist("bank-b", map[string]int{"add": 5})
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []<-chan struct{}{received(commits), received(raw.store.applied)} {
		select {
		case <-wait:
		case <-ctx.Done():
			t.Fatal("a bank did not commit")
		}
	}
	if outcome, err := client.Wait(ctx, tx.ID()); outcome != assent.Committed || err != nil {
		t.Errorf("wait: %v, %v", outcome, err)
	}

	operator := connect("operator", fail)
	for _, query := range []string{"info", "health", "participants", "tx.list", "tx.show", "tx.retry"} {
		var request []byte
		if query == "tx.show" || query == "tx.retry" {
			request = fmt.Appendf(nil, `{"tx":%q}`, tx.ID())
		}
		msg, err := operator.Request("assent.api."+query, request, patience)
		if err != nil || msg.Header.Get("Nats-Service-Error") != "" {
			t.Errorf("%s: %v, %v", query, err, msg)
		}
		if query == "participants" && !strings.Contains(string(msg.Data), `"name":"bank-b","instances":1`) {
			t.Errorf("the instance of bank-b is not counted: %s", msg.Data)
		}
	}
}

// TestPermissionsToRoute: an operator makes a group, and a client routes by it, with the document's permissions.
func TestPermissionsToRoute(t *testing.T) {
	connect := guarded(t)
	fail := nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("%s: %v", nc.Opts.Name, err) })
	lead(t, connect("coordinator", fail))
	commits := make(handler, 1)
	p, err := participant.New(connect("bank-b", fail), participant.Config{Name: "bank-b", Handler: commits})
	if err != nil {
		t.Fatal(err)
	}
	background(t, p.Run, p.Ready())
	operator := connect("operator", fail)
	for _, request := range []string{`{"group":"banks","action":"create"}`, `{"group":"banks","action":"add","node":"bank-b"}`} {
		msg, err := operator.Request("assent.api.ring.change", []byte(request), patience)
		if err != nil || msg.Header.Get("Nats-Service-Error") != "" {
			t.Fatalf("%s: %v, %v", request, err, msg)
		}
	}
	nc := connect("client", fail)
	client, err := assent.New(nc, assent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tx := client.Begin()
	tx.EnlistKey("banks", "alice", map[string]int{"add": 5})
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	for _, asks := range []*nats.Conn{nc, operator} {
		msg, err := asks.Request("assent.route", []byte(`{"group":"banks","key":"alice"}`), patience)
		if err != nil || !strings.Contains(string(msg.Data), `"node":"bank-b"`) {
			t.Errorf("assent.route: %v, %v", err, msg)
		}
	}
}

// TestPermissionsToLock: a client makes a bucket of locks, and locks what no participant owns, with the document's permissions.
func TestPermissionsToLock(t *testing.T) {
	connect := guarded(t)
	fail := nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("%s: %v", nc.Opts.Name, err) })
	lead(t, connect("coordinator", fail))
	commits := make(handler, 1)
	p, err := participant.New(connect("bank-b", fail), participant.Config{Name: "bank-b", Handler: commits})
	if err != nil {
		t.Fatal(err)
	}
	background(t, p.Run, p.Ready())
	client, err := assent.New(connect("client", fail), assent.Config{Locks: locks.Config{Streams: 1}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tx := client.Begin()
	tx.Lock("stock/7")
	tx.Enlist("bank-b", map[string]int{"add": 5})
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
}

func received[T any](from <-chan T) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-from
	}()
	return done
}

// TestForgery: what a role may not say, NATS does not carry.
func TestForgery(t *testing.T) {
	connect := guarded(t)
	lead(t, connect("coordinator"))
	for role, subjects := range map[string][]string{
		"bank-a": {
			"assent.log.0.vote.bank-b", "assent.log.0.prepare.bank-a", "assent.log.0.abort", "assent.log.0.finished",
			"assent.commit.0.bank-b", "assent.rollback.0.bank-b", "assent.done.0.bank-b", "assent.submit.0", "assent.api.tx.abort",
			"_INBOX.coordinator.x", "_INBOX.client.x", "$JS.API.STREAM.PURGE.assent-log-0", "$JS.API.CONSUMER.MSG.NEXT.assent-log-0.bank-b",
			"$JS.API.CONSUMER.CREATE.assent-log-0.bank-a", "$JS.ACK.assent-log-0.bank-b.1.1.1.1.0", "$KV.assent-participants.bank-c",
			"$KV.assent-checkpoints.0", "$KV.assent-leases-0.lock.shard-0", "assent.coordinators", "assent.lead.0.tx.abort",
			"$KV.assent-rings.coordinators", "$KV.assent-rings.coordinators.coordinator-1", "assent.ring.coordinators", "$KV.assent-nodes-0.x",
		},
		"client": {
			"assent.log.0.vote.bank-a", "assent.log.0.abort", "assent.commit.0.bank-a", "assent.done.0.bank-a", "assent.api.register",
			"assent.api.tx.abort", "$JS.API.STREAM.PURGE.assent-log-0", "_INBOX.bank-a.x",
		},
		"operator":    {"assent.log.0.vote.bank-a", "assent.commit.0.bank-a", "$JS.API.STREAM.PURGE.assent-log-0"},
		"coordinator": {"assent.log.0.vote.bank-a", "assent.done.0.bank-a"},
	} {
		refused := make(chan error, len(subjects))
		nc := connect(role, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		for _, subject := range subjects {
			if err := nc.Publish(subject, nil); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(`"`+subject+`"`)) {
					t.Errorf("%s on %s: %v", role, subject, err)
				}
			case <-time.After(patience):
				t.Errorf("%s may publish on %s", role, subject)
			}
		}
	}
	for role, subjects := range map[string][]string{
		"bank-a": {"assent.commit.*.bank-b", "assent.submit.*", "_INBOX.client.>", "_INBOX.>", "assent.log.>"},
		"client": {"assent.done.>", "_INBOX.bank-a.>", "assent.log.>"},
	} {
		refused := make(chan error, len(subjects))
		nc := connect(role, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
		for _, subject := range subjects {
			if _, err := nc.SubscribeSync(subject); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-refused:
				if !errors.Is(err, nats.ErrPermissionViolation) {
					t.Errorf("%s on %s: %v", role, subject, err)
				}
			case <-time.After(patience):
				t.Errorf("%s may subscribe to %s", role, subject)
			}
		}
	}
}

// TestReflection: NATS does not check the reply subject of a request, so who may ask can have the answer sent to a subject
// that they may not publish on. No answer may pass there for a record.
func TestReflection(t *testing.T) {
	tx := messages.NewID()
	answers := [][]byte{
		messages.AppendAnswer(nil, &messages.Answer{Tx: tx, Outcome: messages.Committed}),
		messages.AppendAnswer(nil, &messages.Answer{Tx: tx, Outcome: messages.Aborted, Participant: "bank-a", Reason: "yes"}),
		messages.AppendAnswer(nil, &messages.Answer{Tx: tx, Error: messages.CodeNotFound, Message: "m"}),
		messages.AppendAnswer(nil, &messages.Answer{Error: messages.CodeInvalid, Field: "tx", Message: "m"}),
		fmt.Appendf(nil, `{"tx":%q,"outcome":"aborted","reason":"operator"}`, tx), // assent.api.tx.abort
		fmt.Appendf(nil, `{"tx":%q,"sent":[]}`, tx),                               // assent.api.tx.retry
		[]byte(`{"stream":"assent-log-0","seq":1}`),                               // JetStream, for a message that is stored
		[]byte("+ACK"),
	}
	var d messages.Decoder
	for kind, decode := range map[string]func([]byte) error{
		"prepare":    func(b []byte) error { return d.Prepare(b, new(messages.Prepare)) },
		"vote":       func(b []byte) error { return d.Vote(b, new(messages.VoteRecord)) },
		"abort":      func(b []byte) error { return d.Abort(b, new(messages.Abort)) },
		"finished":   func(b []byte) error { return d.Finished(b, new(messages.Finished)) },
		"outcome":    func(b []byte) error { return d.Effect(b, new(messages.Effect)) },
		"done":       func(b []byte) error { return d.Done(b, new(messages.Done)) },
		"submission": func(b []byte) error { return d.Submission(b, new(messages.Submission)) },
		"wait":       func(b []byte) error { return d.Wait(b, new(messages.Wait)) },
	} {
		for _, answer := range answers {
			if err := decode(answer); !errors.Is(err, messages.ErrMalformed) {
				t.Errorf("%s passes for a record of kind %s: %v", answer, kind, err)
			}
		}
	}
}
