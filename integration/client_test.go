// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// The client is gone right after it has submitted. The transaction goes on without it; whoever has the id learns what
// became of it.
func TestClientIsGone(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	var ids []assent.ID
	unsubmitted := make(map[assent.ID]bool)
	for range 20 {
		tx := c.draft(c.some(c.rand))
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		err := tx.Commit(ctx)
		unsubmitted[tx.ID()] = errors.Is(err, context.Canceled) && !errors.Is(err, assent.ErrUnknown) // it was too quick
		if err != nil && !unsubmitted[tx.ID()] && !errors.Is(err, assent.ErrUnknown) && !errors.Is(err, assent.ErrAborted) && !errors.Is(err, assent.ErrNoCoordinator) {
			t.Errorf("%s: %v", tx.ID(), err)
		}
		ids = append(ids, tx.ID())
	}
	c.client.Close()
	c.nc.Close()
	c.link.Close()
	c.connect()
	for _, id := range ids {
		e := &entry{id: id, banks: c.names}
		e.outcome, e.err = c.client.Wait(within(t, patience), id)
		if e.err != nil && !errors.Is(e.err, assent.ErrNotFound) { // not found: it was gone before it had submitted
			t.Errorf("%s: %v", id, e.err)
		}
		if unsubmitted[id] && !errors.Is(e.err, assent.ErrNotFound) {
			t.Errorf("%s: said not to be submitted, and is known: %v, %v", id, e.outcome, e.err)
		}
		c.book.write(e)
	}
	c.transfers(5)
	c.check()
}

// The same id is submitted again before, during and after: by impatient callers, and by a program that noted the id down
// and crashed. It is one transaction, done once. (Helland, "Life beyond Distributed Transactions", 2007.)
func TestSameIDAgain(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	for i := range 10 {
		o := c.some(c.rand)
		o.id, o.trouble = assent.NewID(), "prepare=slow:200ms"
		var first sync.WaitGroup
		for range 5 { // before and during
			first.Go(func() { c.do(o) })
		}
		if i%3 == 0 {
			c.leader.kill()
			c.leader.restart()
		}
		first.Wait()
		outcome := c.book.entries[o.id].outcome
		c.want(outcome, o) // after
		c.leader.kill()
		c.leader.restart()
		c.want(outcome, o) // and by a coordinator that has only read of it
		other := c.some(c.rand)
		other.id, other.from, other.to = o.id, o.from, o.to
		c.want(outcome, other) // whatever it says now: the id is taken
	}
	c.check()
}

// An id that is too old to be told from a repeat is refused, not guessed at.
func TestIDIsTooOld(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	o := c.some(c.rand)
	o.id = assent.NewID()
	at := time.Now().Add(-10 * time.Minute).UnixMilli()
	for i := range 6 {
		o.id[i] = byte(at >> (40 - 8*i))
	}
	if e := c.do(o); !errors.Is(e.err, assent.ErrUnknown) || !errors.Is(e.err, assent.ErrInvalid) {
		t.Errorf("got %v; want to hear that it is unknown, and why", e.err)
	}
	if _, err := c.client.Outcome(within(t, patience), o.id); !errors.Is(err, assent.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	c.transfers(5)
	c.check()
}

// What is wrong with a submission is said, with the field and the limit; nobody else in the same message is disturbed.
func TestBadSubmissions(t *testing.T) {
	t.Parallel()
	c := start(t, setup{})
	good := assent.NewID().String()
	lines := map[string]messages.Code{
		`not JSON`:                              messages.CodeInvalid,
		`{"tx":"` + good + `","operations":[]}`: messages.CodeInvalid,
		`{"tx":"` + good + `","operations":[{"participant":"bank-a","payload":1}],"color":"red"}`:   messages.CodeInvalid,
		`{"tx":"7","operations":[{"participant":"bank-a","payload":1}]}`:                            messages.CodeInvalid,
		`{"tx":"` + good + `","timeout_ms":1,"operations":[{"participant":"bank-a","payload":1}]}`:  messages.CodeInvalid,
		`{"tx":"` + good + `","operations":[{"participant":"no one","payload":1}]}`:                 messages.CodeInvalid,
		`{"tx":"` + good + `","operations":[{"participant":"nobody","payload":1}]}`:                 messages.CodeUnknownParticipant,
		`{"tx":"` + good + "\",\"operations\":[{\"participant\":\"bank-a\",\"payload\":\"\xff\"}]}": messages.CodeInvalid,
	}
	l := c.load(2)
	for line, want := range lines {
		msg, err := c.nc.Request(messages.Subjects{}.Submit(0), []byte(line+"\n"), patience)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		var answer messages.Answer
		var decoder messages.Decoder
		for line := range messages.Lines(msg.Data) {
			if err := decoder.Answer(line, &answer); err != nil {
				t.Fatal(err)
			}
		}
		if answer.Error != want || answer.Message == "" {
			t.Errorf("%s: got %+v, want %s", line, answer, want)
		}
	}
	l.more(10)
	l.stop()
	c.check()
}
