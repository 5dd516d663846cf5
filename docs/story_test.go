// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// The story of the worked example. Each step waits for its message and writes it down.

func (w *wire) registration(name string) {
	w.title("Registration", "Before all this the coordinator has made the stream `assent-log-0` and the two buckets; there is one shard. "+
		"bank-a subscribes to its outcomes, registers, and asks JetStream for a message of prepares; bank-b does the same. "+
		"(Left out from here on: further pull requests, the leader's own reading of the log, and JetStream's advisories.)")
	request, response := w.registered()
	w.step(name, "coordinator", request)
	w.step("coordinator", name, response)
	w.step(name, "JetStream", w.said("$JS.API.CONSUMER.MSG.NEXT.assent-log-0."+name))
	w.close()
}

func (w *wire) skipRegistration(name string) {
	w.registered()
	w.said("$JS.API.CONSUMER.MSG.NEXT.assent-log-0." + name)
}

// registered is the registration that was answered. One that came before the coordinator was there was not, as only its sender
// hears.
func (w *wire) registered() (request, response *nats.Msg) {
	response = w.take("a registration's answer", func(msg *nats.Msg) bool {
		return strings.HasPrefix(msg.Subject, "_INBOX.bank-") && strings.HasPrefix(string(msg.Data), `{"shards":`)
	})
	request = w.take("the registration", func(msg *nats.Msg) bool { return msg.Reply == response.Subject })
	return request, response
}

func (w *wire) info() {
	w.title("A client begins", "It asks once how many shards there are.")
	request := w.said("assent.api.info")
	w.step("client", "coordinator", request)
	w.step("coordinator", "client", w.said(request.Reply))
	w.close()
}

func (w *wire) committed() {
	w.title("A transfer that commits", "The client has minted an id. The leader writes one prepare for each bank; each bank makes its branch durable, votes, and "+
		"acknowledges its prepare once the log has the vote. The second yes commits the transaction: there is no decision record. "+
		"The client hears it, the banks are told and say done, and the leader notes in the log that nothing is owed any more.")
	submit := w.said("assent.submit.0")
	w.step("client", "leader", submit)
	w.prepares()
	w.votes()
	w.step("leader", "client", w.said(submit.Reply))
	for _, name := range []string{"bank-a", "bank-b"} {
		w.step("leader", name, w.said("assent.commit.0."+name))
	}
	for _, name := range []string{"bank-a", "bank-b"} {
		w.step(name, "leader", w.said("assent.done.0."+name))
	}
	w.stored("leader", "assent.log.0.finished")
	w.close()
}

func (w *wire) repeated() {
	w.title("The same, submitted again", "The client did not hear the answer, say. It sends the same record with the same id, and nothing happens twice.")
	submit := w.said("assent.submit.0")
	w.step("client", "leader", submit)
	w.step("leader", "client", w.said(submit.Reply))
	w.close()
}

func (w *wire) waited() {
	w.title("Asking for the outcome", "Whoever has the id can ask.")
	request := w.said("assent.wait.0")
	w.step("client", "leader", request)
	w.step("leader", "client", w.said(request.Reply))
	w.close()
}

func (w *wire) refused() {
	w.title("A transfer that is refused", "bank-a has voted yes when bank-b refuses. The no aborts the transaction. bank-b holds nothing and hears nothing; bank-a is told to roll back.")
	submit := w.said("assent.submit.0")
	w.step("client", "leader", submit)
	w.prepares()
	w.votes()
	w.step("leader", "client", w.said(submit.Reply))
	w.step("leader", "bank-a", w.said("assent.rollback.0.bank-a"))
	w.step("bank-a", "leader", w.said("assent.done.0.bank-a"))
	w.stored("leader", "assent.log.0.finished")
	w.close()
}

func (w *wire) prepares() {
	for _, name := range []string{"bank-a", "bank-b"} {
		w.stored("leader", "assent.log.0.prepare."+name)
	}
	for _, name := range []string{"bank-a", "bank-b"} {
		w.step("JetStream", name, w.delivered("assent.log.0.prepare."+name, name))
	}
}

func (w *wire) votes() {
	for _, name := range []string{"bank-a", "bank-b"} {
		w.stored(name, "assent.log.0.vote."+name)
		w.step(name, "JetStream", w.take("the acknowledgement of a prepare by "+name, func(msg *nats.Msg) bool {
			return strings.HasPrefix(msg.Subject, "$JS.ACK.assent-log-0."+name+".")
		}))
	}
}

// sequence is a stored message's place in the log.
var sequence = regexp.MustCompile(`"seq":(\d+)`)

// stored is a message to the log, and JetStream's answer to it.
func (w *wire) stored(writer, subject string) {
	msg := w.said(subject)
	ack := w.take("the acknowledgement of "+subject, func(ack *nats.Msg) bool { return ack.Subject == msg.Reply })
	found := sequence.FindStringSubmatch(string(ack.Data))
	if found == nil {
		w.t.Fatalf("%s was not stored: %s", subject, ack.Data)
	}
	w.sequences[found[1]] = fmt.Sprint(len(w.sequences)) // in the order of the document
	w.step(writer, "JetStream", msg)
	w.step("JetStream", writer, ack)
}

func (w *wire) title(title, text string) {
	fmt.Fprintf(&w.text, "\n### %s\n\n%s\n\n```text\n", title, text)
}

func (w *wire) close() { w.text.WriteString("```\n") }

func (w *wire) step(from, to string, msg *nats.Msg) {
	w.told[msg.Subject+" "+string(msg.Data)] = true
	if w.steps++; !strings.HasSuffix(w.text.String(), "```text\n") {
		w.text.WriteByte('\n')
	}
	fmt.Fprintf(&w.text, "%2d  %s → %s\n", w.steps, from, to)
	fmt.Fprintf(&w.text, "    subject  %s\n", w.subject(msg.Subject))
	if msg.Reply != "" {
		fmt.Fprintf(&w.text, "    reply    %s\n", w.subject(msg.Reply))
	}
	for _, key := range slices.Sorted(maps.Keys(msg.Header)) {
		fmt.Fprintf(&w.text, "    header   %s: %s\n", key, w.messageID(msg.Header.Get(key)))
	}
	if len(msg.Data) > 0 {
		fmt.Fprintf(&w.text, "    body     %s\n", w.body(strings.TrimSuffix(string(msg.Data), "\n")))
	}
}

var (
	ackSubject = regexp.MustCompile(`^(\$JS\.ACK\.assent-log-0\.[^.]+\.1\.)(\d+)(\.\d+\.)\d+\.\d+$`)
	sequences  = regexp.MustCompile(`"(vote|through|seq)":(\d+)`)
	expires    = regexp.MustCompile(`"expires":(\d{13})\b`)
	since      = regexp.MustCompile(`"since":(\d{16})\b`)
	created    = regexp.MustCompile(`"incarnation":"[^"]*"`)
	writer     = regexp.MustCompile(`^[0-9a-f-]{36}-[0-9a-z]+$`)
)

func (w *wire) subject(subject string) string {
	if role, ok := strings.CutPrefix(subject, "_INBOX."); ok {
		if w.inboxes[subject] == "" {
			role, _, _ = strings.Cut(role, ".")
			w.perRole[role]++
			w.inboxes[subject] = fmt.Sprintf("_INBOX.%s.%d", role, w.perRole[role])
		}
		return w.inboxes[subject]
	}
	if found := ackSubject.FindStringSubmatch(subject); found != nil {
		return found[1] + w.sequence(found[2]) + found[3] + "1764288000000000000.0"
	}
	return subject
}

// messageID stands a fixed writer in for the leader's, and counts its messages in the order of the document.
func (w *wire) messageID(id string) string {
	if writer.MatchString(id) {
		if w.writers[id] == "" {
			w.writers[id] = fmt.Sprintf("019ac7c2-6f00-7a3c-8c1d-2f4b6a8e0c12-%d", len(w.writers)+1)
		}
		return w.writers[id]
	}
	return id
}

func (w *wire) sequence(stored string) string {
	if as, ok := w.sequences[stored]; ok {
		return as
	}
	w.t.Fatalf("log sequence %s is of no message that was written down", stored)
	return ""
}

func (w *wire) body(body string) string {
	body = sequences.ReplaceAllStringFunc(body, func(s string) string {
		found := sequences.FindStringSubmatch(s)
		return fmt.Sprintf(`"%s":%s`, found[1], w.sequence(found[2]))
	})
	body = expires.ReplaceAllStringFunc(body, func(s string) string {
		w.oneOf(&w.expires, s)
		return fmt.Sprintf(`"expires":%d`, 1764288031000+int64(5000*(len(w.pairs)/2-1)))
	})
	body = since.ReplaceAllStringFunc(body, func(s string) string {
		w.oneOf(&w.since, s)
		return fmt.Sprintf(`"since":%d`, 1764288001000250+int64(5_000_000*(len(w.pairs)/2-1)))
	})
	body = created.ReplaceAllString(body, `"incarnation":"2025-11-28T00:00:00.123456789Z"`)
	return w.names.Replace(body)
}

// oneOf wants what stands in several records of a transaction to be the same in all of them.
func (w *wire) oneOf(seen *string, now string) {
	w.t.Helper()
	if *seen == "" {
		*seen = now
	}
	if now != *seen {
		w.t.Errorf("%s, and before it %s, of one transaction", now, *seen)
	}
}
