// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
)

// Message is what is published if the transaction commits. It is the payload of an operation, so it has to fit in a record
// with the others of its branch: about 200 KiB of data, less if it is not text.
type Message struct {
	// Subject is where it goes, at most 1024 bytes, without wildcards. Subjects that begin with the cluster's own prefix or with $
	// are refused; but see Bucket.
	Subject string
	// Header is kept, but for names that begin with Nats-, which tell JetStream what to do: of those only Nats-TTL and Nats-Rollup
	// are taken, where the stream allows them. The outbox adds Nats-Msg-Id.
	Header nats.Header
	// Data is the message's body.
	Data []byte
	// Stream is the name of the stream that must take the message (Nats-Expected-Stream); "" for whichever takes its subject.
	Stream string
	// Core makes it a message of core NATS, which nobody has to store.
	Core bool
	// Bucket says that the subject is meant to be a key-value bucket's or an object store's, $KV. or $O.
	Bucket bool
}

// Publish adds a message to a transaction, by the outbox of that name. It does no I/O; what is wrong with the message, the
// outbox refuses when the transaction is committed. Options are those of Tx.Enlist.
func Publish(tx *assent.Tx, outbox string, message Message, options ...assent.OpOption) {
	tx.Enlist(outbox, message, options...)
}

// wire is a message as a payload.
type wire struct {
	Subject string      `json:"subject"`
	Header  nats.Header `json:"header,omitempty"`
	Text    string      `json:"text,omitempty"` // the data, if it is UTF-8
	Data    []byte      `json:"data,omitempty"` // base64, if it is not
	Stream  string      `json:"stream,omitempty"`
	Core    bool        `json:"core,omitempty"`
	Bucket  bool        `json:"bucket,omitempty"`
}

// MarshalJSON gives the payload of an operation: {"subject","header","text" or "data","stream","core","bucket"}, all but the subject
// optional, where text is the message's body as it is, and data is one in base64.
func (m Message) MarshalJSON() ([]byte, error) {
	w := wire{Subject: m.Subject, Header: m.Header, Stream: m.Stream, Core: m.Core, Bucket: m.Bucket}
	if utf8.Valid(m.Data) {
		w.Text = string(m.Data)
	} else {
		w.Data = m.Data
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // the size counts
	err := encoder.Encode(w)
	return body.Bytes(), err
}

// UnmarshalJSON reads a payload, and refuses fields that it does not know.
func (m *Message) UnmarshalJSON(payload []byte) error {
	var w wire
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&w); err != nil {
		return err
	}
	if w.Text != "" && len(w.Data) > 0 {
		return errors.New(`"text" and "data" exclude each other`)
	}
	*m = Message{Subject: w.Subject, Header: w.Header, Data: w.Data, Stream: w.Stream, Core: w.Core, Bucket: w.Bucket}
	if w.Text != "" {
		m.Data = []byte(w.Text)
	}
	return nil
}

// message makes it a NATS message with an id.
func (m *Message) message(id string) *nats.Msg {
	msg := nats.NewMsg(m.Subject)
	for name, values := range m.Header {
		msg.Header[name] = values
	}
	msg.Header.Set(nats.MsgIdHdr, id)
	if m.Stream != "" {
		msg.Header.Set(nats.ExpectedStreamHdr, m.Stream)
	}
	msg.Data = m.Data
	return msg
}

// messageID is the Nats-Msg-Id of an operation's message. The outbox's name is in it, because a transaction may have several.
func messageID(tx assent.ID, outbox string, operation int) string {
	return fmt.Sprintf("%s.%s.%d", tx, outbox, operation)
}
