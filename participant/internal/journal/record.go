// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"github.com/assent-tx/assent/messages"
)

// A record is a line of a message's body: a verb and its fields, one space between them.
//
//	begin <instance> <ms>                    an instance has taken over at that time; from here on only its messages count
//	open <tx> <expires> <data>               a branch is open; again: it still is
//	done <tx> <expires> commit|rollback      it is settled so, and remembered
//	mark <stream> <incarnation> <sequence>   how far a log had come (participant.Watermark)
//	floor <ms>                               of transactions minted up to then, what is not known may be forgotten
//	here                                     nothing: that the writer could write it is what it is for
//
// Times are Unix milliseconds, by the clock of the participant's machine.
type record struct {
	verb verb
	tx   messages.ID
	// at is begin's time, open's and done's expiry, or floor's.
	at     int64
	commit bool
	data   []byte
	// note is open's, and not written.
	note any
	// name is begin's instance, or mark's stream.
	name, incarnation string
	sequence          uint64
}

type verb uint8

const (
	verbBegin verb = iota + 1
	verbOpen
	verbDone
	verbMark
	verbFloor
	verbHere
)

// appendRecord writes a record without its newline.
func appendRecord(b []byte, r *record) []byte {
	switch r.verb {
	case verbBegin:
		b = append(append(append(b, "begin "...), r.name...), ' ')
		return strconv.AppendInt(b, r.at, 10)
	case verbOpen:
		b = append(append(append(b, "open "...), r.tx.String()...), ' ')
		return append(append(strconv.AppendInt(b, r.at, 10), ' '), r.data...)
	case verbDone:
		b = append(append(append(b, "done "...), r.tx.String()...), ' ')
		b = strconv.AppendInt(b, r.at, 10)
		if r.commit {
			return append(b, " commit"...)
		}
		return append(b, " rollback"...)
	case verbMark:
		b = append(append(append(b, "mark "...), r.name...), ' ')
		return strconv.AppendUint(append(append(b, r.incarnation...), ' '), r.sequence, 10)
	case verbFloor:
		return strconv.AppendInt(append(b, "floor "...), r.at, 10)
	case verbHere:
		return append(b, "here"...)
	default:
		panic(fmt.Sprintf("journal: a record of verb %d", r.verb))
	}
}

// recordOverhead is more than a record has besides its data.
const recordOverhead = 128

var errMalformed = errors.New("malformed")

// parseRecord reads a line. What it gives refers to the line.
func parseRecord(line []byte) (r record, err error) {
	name, rest, _ := bytes.Cut(line, space)
	f := fields{rest: rest}
	switch string(name) {
	case "begin":
		r.verb, r.name, r.at = verbBegin, f.text(), f.number()
	case "open":
		r.verb, r.tx, r.at = verbOpen, f.id(), f.number()
		r.data, f.rest = f.rest, nil
		f.bad = f.bad || len(r.data) == 0
	case "done":
		r.verb, r.tx, r.at = verbDone, f.id(), f.number()
		outcome := f.text()
		r.commit = outcome == "commit"
		f.bad = f.bad || !r.commit && outcome != "rollback"
	case "mark":
		r.verb, r.name, r.incarnation, r.sequence = verbMark, f.text(), f.text(), uint64(f.number())
	case "floor":
		r.verb, r.at = verbFloor, f.number()
	case "here":
		r.verb = verbHere
	default:
		f.bad = true
	}
	if f.bad || len(f.rest) > 0 || r.verb != verbOpen && bytes.HasSuffix(line, space) {
		return record{}, fmt.Errorf("%w: %.80q", errMalformed, line)
	}
	return r, nil
}

var space = []byte{' '}

// fields reads the fields of a line one after the other; bad stays set once one is not as it must be.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) next() []byte {
	field, rest, _ := bytes.Cut(f.rest, space)
	f.rest = rest
	f.bad = f.bad || len(field) == 0
	return field
}

func (f *fields) text() string { return string(f.next()) }

func (f *fields) number() int64 {
	n, err := strconv.ParseInt(string(f.next()), 10, 64)
	f.bad = f.bad || err != nil || n < 0
	return n
}

func (f *fields) id() messages.ID {
	id, err := messages.ParseID(string(f.next()))
	f.bad = f.bad || err != nil
	return id
}
