// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/messages"
)

var rewrite = flag.Bool("rewrite", false, "write the worked example into protocol.md anew")

const (
	document     = "protocol.md"
	exampleBegin = "<!-- example:begin (written by go test ./docs -rewrite) -->\n"
	exampleEnd   = "<!-- example:end -->\n"
)

// TestExample runs a committed and a refused transfer between two banks in raw NATS, records every message, and holds
// the record against the worked example in protocol.md.
func TestExample(t *testing.T) {
	connect := start(t)
	w := newWire(t, connect("observer"))
	lead(t, connect("coordinator"))
	first := make(chan struct{}, 1) // bank-a votes first, so that there is one order to write down
	a := &bank{name: "bank-a", nc: connect("bank-a"), store: newStore(), refuse: overdrawn, voted: func() { first <- struct{}{} }}
	b := &bank{name: "bank-b", nc: connect("bank-b"), store: newStore(), refuse: overdrawn, before: func() { <-first }}
	open(t, a)
	open(t, b)
	w.registration("bank-a")
	w.skipRegistration("bank-b")

	client := connect("client")
	if got := ask(t, client, "assent.api.info", ""); got.Error != "" {
		t.Fatalf("info: %+v", got)
	}
	w.info()

	submission := func(tx messages.ID, from, to string, amount int) string {
		return fmt.Sprintf(`{"tx":%q,"timeout_ms":30000,"operations":[`+
			`{"participant":%q,"keys":["account/1"],"payload":{"add":%d}},`+
			`{"participant":%q,"keys":["account/7"],"payload":{"add":%d}}]}`, tx, from, -amount, to, amount)
	}
	committed := messages.NewID()
	w.name(committed.String(), "019ac7c2-73e8-7c54-9d1e-5b0c3f6e8a11")
	transfer := submission(committed, "bank-a", "bank-b", 5)
	if got := ask(t, client, "assent.submit.0", transfer); got.Outcome != "committed" {
		t.Fatalf("the transfer: %+v", got)
	}
	w.committed()
	if got := ask(t, client, "assent.submit.0", transfer); got.Outcome != "committed" {
		t.Fatalf("the transfer, once more: %+v", got)
	}
	w.repeated()
	ask(t, client, "assent.wait.0", fmt.Sprintf(`{"tx":%q}`, committed))
	w.waited()

	refused := messages.NewID()
	w.name(refused.String(), "019ac7c2-8770-7a10-8e27-94d1b7c05f22")
	if got := ask(t, client, "assent.submit.0", submission(refused, "bank-b", "bank-a", 500)); got.Outcome != "aborted" ||
		got.Participant != "bank-b" || got.Reason != "the account is overdrawn" {
		t.Fatalf("the refused transfer: %+v", got)
	}
	w.refused()
	w.nothingElse()

	if commit, over := a.store.outcome(committed.String()); !commit || !over {
		t.Error("bank-a did not commit the transfer")
	}
	if commit, over := a.store.outcome(refused.String()); commit || !over {
		t.Error("bank-a did not roll the refused transfer back")
	}
	if len(b.store.inDoubt()) != 0 {
		t.Error("bank-b is left in doubt")
	}
	hold(t, w.text.String())
}

// hold compares the worked example with the document's, or replaces it.
func hold(t *testing.T, got string) {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), exampleBegin)
	want, after, ended := strings.Cut(rest, exampleEnd)
	if !found || !ended {
		t.Fatalf("%s lacks the marks %q and %q", document, exampleBegin, exampleEnd)
	}
	if got == want {
		return
	}
	if !*rewrite {
		t.Fatalf("the worked example in %s is not what happens. Run `go test ./docs -run TestExample -rewrite` and read the diff. It is now:\n%s", document, got)
	}
	if err := os.WriteFile(document, []byte(before+exampleBegin+got+exampleEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRecovery: a bank that voted yes and died before it heard the outcome learns it when it comes back.
func TestRecovery(t *testing.T) {
	connect := start(t)
	lead(t, connect("coordinator"))
	store, client := newStore(), connect("client")
	dead := &bank{name: "bank-a", nc: connect("bank-a"), store: store, refuse: overdrawn, deaf: true}
	if err := dead.begin(); err != nil {
		t.Fatal(err)
	}
	tx := messages.NewID().String()
	submission := fmt.Sprintf(`{"tx":%q,"operations":[{"participant":"bank-a","payload":{"add":1}}]}`, tx)
	if got := ask(t, client, "assent.submit.0", submission); got.Outcome != "committed" {
		t.Fatalf("got %+v", got)
	}
	dead.end()
	if _, doubt := store.inDoubt()[tx]; !doubt {
		t.Fatal("the dead bank is not in doubt: the test tests nothing")
	}
	open(t, &bank{name: "bank-a", nc: connect("bank-a"), store: store, refuse: overdrawn})
	select {
	case <-store.applied:
	case <-time.After(patience):
		t.Fatal("the outcome did not come")
	}
	if commit, _ := store.outcome(tx); !commit {
		t.Error("it was rolled back")
	}
}

// wire records what is said, and writes it down in one order with one set of names, whatever the order on the network.
type wire struct {
	t     *testing.T
	heard chan *nats.Msg
	// left are messages that were heard and not yet written down.
	left  []*nats.Msg
	text  bytes.Buffer
	steps int
	names *strings.Replacer
	pairs []string
	// What stands for the real inboxes, log sequences and message ids.
	inboxes   map[string]string
	perRole   map[string]int
	sequences map[string]string
	writers   map[string]string
	expires   string
	since     string
	// told are the messages that were written down: one may come again, on a machine that is slow.
	told map[string]bool
}

func newWire(t *testing.T, nc *nats.Conn) *wire {
	t.Helper()
	w := &wire{
		t: t, heard: make(chan *nats.Msg, 4096), names: strings.NewReplacer(), inboxes: make(map[string]string),
		perRole: make(map[string]int), sequences: map[string]string{"0": "0"}, writers: make(map[string]string),
		told: make(map[string]bool),
	}
	if _, err := nc.ChanSubscribe(">", w.heard); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return w
}

// name gives a transaction the id that it has in the document.
func (w *wire) name(tx, as string) {
	w.expires, w.since = "", ""
	w.pairs = append(w.pairs, tx, as)
	w.names = strings.NewReplacer(w.pairs...)
}

// take waits for a message and takes it out of those that are left.
func (w *wire) take(what string, match func(*nats.Msg) bool) *nats.Msg {
	w.t.Helper()
	for i, msg := range w.left {
		if match(msg) {
			w.left = append(w.left[:i], w.left[i+1:]...)
			return msg
		}
	}
	timeout := time.After(patience)
	for {
		select {
		case msg := <-w.heard:
			if match(msg) {
				return msg
			}
			w.left = append(w.left, msg)
		case <-timeout:
			w.t.Fatalf("never heard %s", what)
		}
	}
}

// said is a message to a subject, as its sender published it.
func (w *wire) said(subject string) *nats.Msg {
	w.t.Helper()
	return w.take(subject, func(msg *nats.Msg) bool {
		return msg.Subject == subject && !strings.HasPrefix(msg.Reply, "$JS.ACK.")
	})
}

// delivered is a prepare, as a participant's consumer delivers it.
func (w *wire) delivered(subject, to string) *nats.Msg {
	w.t.Helper()
	return w.take(subject+" to "+to, func(msg *nats.Msg) bool {
		return msg.Subject == subject && strings.HasPrefix(msg.Reply, "$JS.ACK.assent-log-0."+to+".")
	})
}

// nothingElse fails the test if a message of the protocol was not written down.
func (w *wire) nothingElse() {
	w.t.Helper()
	for _, msg := range w.left {
		again := w.told[msg.Subject+" "+string(msg.Data)]
		if msg.Subject == "assent.coordinators" || strings.HasPrefix(msg.Subject, "assent.locks.") || strings.HasPrefix(msg.Subject, "assent.ring.") {
			continue // coordinators among themselves
		}
		if strings.HasPrefix(msg.Subject, "assent.") && !strings.HasPrefix(msg.Reply, "$JS.ACK.assent-log-0.") && !again {
			w.t.Errorf("a message that the document does not have: %s %s", msg.Subject, msg.Data)
		}
	}
}
