// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"fmt"
)

// value reads any JSON value, checks it whole and gives its bytes, which are part of the scanned line. A newline in it
// is a fault: the value could not be written into a record again.
func (s *scanner) value() []byte {
	if s.fault != nil {
		return nil
	}
	s.space()
	start := s.pos
	s.skip(0)
	if s.fault != nil {
		return nil
	}
	value := s.data[start:s.pos:s.pos]
	if !s.plain && bytes.IndexByte(value, '\n') >= 0 {
		s.fail("has a newline; a record is one line")
		return nil
	}
	return value
}

// skip passes over a value that stands inside depth objects and arrays.
func (s *scanner) skip(depth int) {
	c := s.peek()
	if depth >= MaxDepth && (c == '{' || c == '[') {
		s.fail(fmt.Sprintf("nested deeper than %d", MaxDepth))
		return
	}
	switch {
	case c == '"':
		s.rawString()
	case c == '{':
		for first := true; s.list('{', '}', first); first = false {
			s.rawString()
			s.expect(':')
			s.skip(depth + 1)
		}
	case c == '[':
		for first := true; s.list('[', ']', first); first = false {
			s.skip(depth + 1)
		}
	case c == 't':
		s.literal("true")
	case c == 'f':
		s.literal("false")
	case c == 'n':
		s.literal("null")
	case c == '-' || (c >= '0' && c <= '9'):
		s.skipNumber()
	default:
		s.fail(fmt.Sprintf("not a JSON value at byte %d", s.pos))
	}
}

func (s *scanner) literal(word string) {
	if s.fault != nil {
		return
	}
	end := s.pos + len(word)
	if end > len(s.data) || string(s.data[s.pos:end]) != word {
		s.fail(fmt.Sprintf("expected %s at byte %d", word, s.pos))
		return
	}
	s.pos = end
}

// skipNumber reads a number by the grammar of RFC 8259, section 6.
func (s *scanner) skipNumber() {
	start := s.pos
	s.accept("-")
	whole := s.pos
	digits := s.digits()
	ok := digits == 1 || (digits > 1 && s.data[whole] != '0')
	if s.accept(".") {
		ok = s.digits() > 0 && ok
	}
	if s.accept("eE") {
		s.accept("+-")
		ok = s.digits() > 0 && ok
	}
	if !ok {
		s.fail(fmt.Sprintf("bad number at byte %d", start))
	}
}

// accept passes over the next byte if it is one of set.
func (s *scanner) accept(set string) bool {
	if s.pos == len(s.data) {
		return false
	}
	for i := range len(set) {
		if s.data[s.pos] == set[i] {
			s.pos++
			return true
		}
	}
	return false
}

func (s *scanner) digits() int {
	start := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - start
}
