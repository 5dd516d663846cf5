// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// maxPast is how many earlier writes a record remembers. A write whose acknowledgement was lost is settled if not more than
// that came after it before somebody looked.
const maxPast = 16

// record is the last message of a key. The zero record is that of a key without one.
type record struct {
	revision uint64
	token    locks.Token // zero: written past KV
	id       string      // of the write; "": written past KV
	past     []pastWrite // what it overwrote, newest first
	gone     bool        // a marker of a deletion
	value    []byte
	created  time.Time
}

// pastWrite is a record that was overwritten. Revision 0 is that of a key without a record.
type pastWrite struct {
	revision uint64
	id       string
}

func parseRecord(revision uint64, header, value []byte, created time.Time) (*record, error) {
	r := &record{revision: revision, value: value, created: created}
	if len(header) == 0 {
		return r, nil
	}
	h, err := nats.DecodeHeadersMsg(header)
	if err != nil {
		return nil, err
	}
	r.gone = h.Get(operationHeader) != "" || h.Get(jetstream.MarkerReasonHeader) != ""
	r.id = h.Get(writeHeader)
	if text := h.Get(TokenHeader); text != "" {
		if r.token, err = locks.ParseToken(text); err != nil { // not to be taken for none
			return nil, fmt.Errorf("the record's header %s cannot be read: %w", TokenHeader, err)
		}
	}
	r.past, err = parsePast(h.Get(pastHeader))
	return r, err
}

func parsePast(text string) ([]pastWrite, error) {
	if text == "" {
		return nil, nil
	}
	var past []pastWrite
	for entry := range strings.SplitSeq(text, ",") {
		number, id, _ := strings.Cut(entry, ":")
		revision, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the record's header %s cannot be read: %w", pastHeader, err)
		}
		past = append(past, pastWrite{revision, id})
	}
	return past, nil
}

// header is that of the write that overwrites r.
func (r *record) header(id, operation string, token locks.Token) nats.Header {
	past := append([]pastWrite{{r.revision, r.id}}, r.past...)
	var text strings.Builder
	for _, w := range past[:min(len(past), maxPast)] {
		if text.Len() > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, "%d:%s", w.revision, w.id)
	}
	h := nats.Header{}
	h.Set(TokenHeader, token.String())
	h.Set(writeHeader, id)
	h.Set(pastHeader, text.String())
	if operation != "" {
		h.Set(operationHeader, operation)
	}
	return h
}

// fate is what a record tells of an earlier attempt to write.
type fate int

const (
	fateOpen    fate = iota // not stored so far, and may still be
	fateStored              // stored, and possibly overwritten since
	fateRefused             // not stored, and never will be: something else took its place
	fateTooLate             // too much has been written since to tell
)

// fateOf tells what became of the write id, which was to overwrite the revision base; when it was stored, as which revision. An old
// record is as good as the newest here: of what it tells, nothing changes any more.
func (r *record) fateOf(id string, base uint64) (fate, uint64) {
	if r.id == id {
		return fateStored, r.revision
	}
	if r.revision <= base {
		return fateOpen, 0
	}
	for _, w := range r.past {
		switch {
		case w.id == id:
			return fateStored, w.revision
		case w.revision == base:
			return fateRefused, 0
		}
	}
	return fateTooLate, 0
}
