// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Errors of decoding. Every decoding error wraps exactly one of them.
var (
	// ErrMalformed marks a record that no reader may act on. It is ignored and counted, and never retried.
	ErrMalformed = errors.New("malformed record")
	// ErrNewerVersion marks a record of a protocol version that this package does not know. A reader of a log must
	// stop at it instead of guessing.
	ErrNewerVersion = errors.New("record of a newer protocol version")
	// ErrTooLarge marks a record over MaxRecord.
	ErrTooLarge = errors.New("record too large")
)

// FieldError is a malformed record's fault: the field that was wrong, and the rule that it broke.
type FieldError struct {
	// Field is the path of the field, such as "operations[3].payload"; "" for the record as a whole.
	Field string
	// Problem says what was wrong and what the limit is.
	Problem string
	// Kind is ErrMalformed, ErrNewerVersion or ErrTooLarge.
	Kind error
}

// Error names the field and the problem.
func (e *FieldError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("%v: %s", e.Kind, e.Problem)
	}
	return fmt.Sprintf("%v: %s: %s", e.Kind, e.Field, e.Problem)
}

// Unwrap gives the sentinel.
func (e *FieldError) Unwrap() error { return e.Kind }

// scanner reads one record. Its first fault sticks: after it every method returns zero values, so that the decoders
// read straight down and look at the fault once, at the end.
//
// The codec is ours because it is on the hot path of everything: encoding/json needs five to nine times as long and an
// allocation a field. What counts as JSON is encoding/json's opinion still; fuzz tests hold the two together.
type scanner struct {
	data []byte
	pos  int
	// plain: every byte is printable ASCII and no backslash, so that a string ends at the next quote.
	plain bool
	fault *FieldError
	// The path of a fault: field[index].sub[element]; the indices are -1 outside a list.
	field   string
	index   int
	sub     string
	element int
	// inside is the sub of an object that stands in an element, while its fields are read; else "".
	inside string
	// seen has a bit for each field of the object being read that was there already.
	seen uint32
}

func newScanner(line []byte) scanner {
	s := scanner{data: line, index: -1, element: -1}
	if len(line) > MaxRecord {
		s.fault = &FieldError{Problem: fmt.Sprintf("%d bytes; at most %d", len(line), MaxRecord), Kind: ErrTooLarge}
		return s
	}
	s.plain = isPlain(line)
	if !s.plain && !utf8.Valid(line) {
		s.fault = &FieldError{Problem: "not valid UTF-8", Kind: ErrMalformed}
	}
	return s
}

// isPlain tells whether every byte of b is in 0x20..0x7f and no backslash, eight at a time.
func isPlain(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		escapes := w ^ '\\'*ones
		if ((w-0x20*ones)&^w|(escapes-ones)&^escapes|w)&highs != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 || c >= 0x80 || c == '\\' {
			return false
		}
	}
	return true
}

func (s *scanner) fail(problem string) {
	if s.fault == nil {
		s.fault = &FieldError{Field: s.path(), Problem: problem, Kind: ErrMalformed}
	}
}

func (s *scanner) path() string {
	path := s.field
	if s.index >= 0 {
		path += "[" + strconv.Itoa(s.index) + "]"
	}
	if s.sub != "" {
		path += "." + s.sub
	}
	if s.element >= 0 {
		path += "[" + strconv.Itoa(s.element) + "]"
	}
	return path
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// peek skips white space and gives the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) && s.data[s.pos] > ' ' {
		return s.data[s.pos]
	}
	return s.peekOverSpace()
}

func (s *scanner) peekOverSpace() byte {
	s.space()
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) expect(c byte) bool {
	if s.fault != nil {
		return false
	}
	if s.peek() != c {
		s.fail(fmt.Sprintf("expected %q at byte %d", c, s.pos))
		return false
	}
	s.pos++
	return true
}

// list steps through an object or array between open and close: call it with first true, read an element, call it
// with first false, until it is false.
func (s *scanner) list(openByte, closeByte byte, first bool) bool {
	if s.fault != nil {
		return false
	}
	if first {
		if !s.expect(openByte) {
			return false
		}
		if s.peek() == closeByte {
			s.pos++
			return false
		}
		return true
	}
	switch s.peek() {
	case ',':
		s.pos++
		return true
	case closeByte:
		s.pos++
		return false
	default:
		s.fail(fmt.Sprintf("expected ',' or %q at byte %d", closeByte, s.pos))
		return false
	}
}

// key reads a field's name and the colon after it. Names are plain in this protocol: one with an escape is unknown.
func (s *scanner) key() []byte {
	if s.index >= 0 {
		s.sub = s.inside
	} else {
		s.field = ""
	}
	raw := s.rawString()
	if !s.expect(':') {
		return nil
	}
	return raw
}

// once marks a field as seen; a field given twice is a fault.
func (s *scanner) once(name string, bit uint32) {
	s.field = name
	if s.seen&(1<<bit) != 0 {
		s.fail("given twice")
	}
	s.seen |= 1 << bit
}

// unknown faults the record for a field that the protocol does not have.
func (s *scanner) unknown(name []byte) {
	if s.fault == nil {
		s.fail(fmt.Sprintf("unknown field %.64q", name))
	}
}

// require faults the record when a field was never seen.
func (s *scanner) require(name string, bit uint32) {
	if s.fault == nil && s.seen&(1<<bit) == 0 {
		s.field = name
		s.fail("missing")
	}
}

// rawString reads a string and gives what stands between the quotes, escapes and all.
func (s *scanner) rawString() []byte {
	if !s.expect('"') {
		return nil
	}
	start := s.pos
	if s.plain {
		if end := bytes.IndexByte(s.data[start:], '"'); end >= 0 {
			s.pos = start + end + 1
			return s.data[start : start+end]
		}
	}
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			return s.data[start:i]
		case c == '\\':
			width := escapeWidth(s.data[i:])
			if width == 0 {
				s.fail(fmt.Sprintf("bad escape at byte %d", i))
				return nil
			}
			i += width - 1
		case c < 0x20:
			s.fail(fmt.Sprintf("control character at byte %d", i))
			return nil
		}
	}
	s.fail("unfinished string")
	return nil
}

// escapeWidth is the length of the escape that b starts with, 0 if it is none.
func escapeWidth(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if hexValue[c] == 0xff && (c < 'A' || c > 'F') {
				return 0
			}
		}
		return 6
	default:
		return 0
	}
}

// text reads a string of at most limit bytes.
func (s *scanner) text(limit int) string {
	raw := s.rawString()
	if s.fault != nil {
		return ""
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		raw = unescape(raw)
	}
	if len(raw) > limit {
		s.fail(fmt.Sprintf("%d bytes; at most %d", len(raw), limit))
		return ""
	}
	return string(raw)
}

// someText reads a string of 1 to limit bytes.
func (s *scanner) someText(limit int) string {
	text := s.text(limit)
	if text == "" {
		s.fail(fmt.Sprintf("empty; 1 to %d bytes", limit))
	}
	return text
}

// id reads a transaction's id.
func (s *scanner) id() ID {
	raw := s.rawString()
	if s.fault != nil {
		return ID{}
	}
	id, ok := parseID(raw)
	if !ok {
		s.fail(badID(string(raw)).Error())
	}
	return id
}

// number reads a whole number from 0 to 2^53-1, which every language's JSON can hold.
func (s *scanner) number() int64 {
	if s.fault != nil {
		return 0
	}
	s.space()
	start, value := s.pos, int64(0)
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' && s.pos-start < 17 {
		value = value*10 + int64(s.data[s.pos]-'0')
		s.pos++
	}
	digits := s.pos - start
	if digits == 0 || (digits > 1 && s.data[start] == '0') || value >= 1<<53 || s.numberGoesOn() {
		s.fail("not a whole number from 0 to 2^53-1")
		return 0
	}
	return value
}

// positive is number for what counts from 1.
func (s *scanner) positive() uint64 {
	n := s.number()
	if n == 0 {
		s.fail("not a whole number from 1 to 2^53-1")
	}
	return uint64(n)
}

func (s *scanner) numberGoesOn() bool {
	if s.pos == len(s.data) {
		return false
	}
	switch c := s.data[s.pos]; c {
	case '.', 'e', 'E', '+', '-':
		return true
	default:
		return c >= '0' && c <= '9'
	}
}

// truth reads true or false.
func (s *scanner) truth() bool {
	switch s.peek() {
	case 't':
		s.literal("true")
		return s.fault == nil
	default:
		s.literal("false")
		return false
	}
}

// end checks that nothing follows the record and gives its fault.
func (s *scanner) end() error {
	if s.fault == nil {
		if s.space(); s.pos != len(s.data) {
			s.field = ""
			s.fail(fmt.Sprintf("bytes after the record, at byte %d", s.pos))
		}
	}
	if s.fault == nil {
		return nil
	}
	if v := newerVersion(s.data); v != 0 {
		return &FieldError{Field: "v", Problem: versionProblem(v), Kind: ErrNewerVersion}
	}
	return s.fault
}
