// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"iter"
	"strconv"
)

// Decoder decodes records. It remembers the participants' names that it has met, so that the same name is one string,
// allocated once. The zero value is ready; a Decoder must not be used by two goroutines at once.
type Decoder struct {
	names map[string]string
	// spare is room for keys that no record has yet. Each record's keys are cut from it and never written again, so
	// that they may be kept; a block of room is allocated once for many records.
	spare []string
}

// spareKeys is the room for keys that is allocated at once: little, since one kept key keeps the block.
const spareKeys = 64

// maxNames bounds the names that a Decoder remembers: over it, it starts again.
const maxNames = 4096

// name reads a participant's name.
func (d *Decoder) name(s *scanner) string {
	raw := s.rawString()
	if s.fault != nil {
		return ""
	}
	if known, ok := d.names[string(raw)]; ok {
		return known
	}
	name := string(raw)
	if !ValidName(name) {
		s.fail("name " + strconv.Quote(cut(name, MaxName+1)) + " is not 1 to " + strconv.Itoa(MaxName) + " of [A-Za-z0-9_-]")
		return ""
	}
	if d.names == nil || len(d.names) >= maxNames {
		d.names = make(map[string]string)
	}
	d.names[name] = name
	return name
}

// Lines steps through the records of a message body: its lines, without the newlines and without the empty ones. A
// newline after the last record may be missing. Lines does not count against MaxRecords, which binds the writer: every
// reader reads whatever a message holds.
func Lines(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(data) > 0 {
			line := data
			if end := bytes.IndexByte(data, '\n'); end >= 0 {
				line, data = data[:end], data[end+1:]
			} else {
				data = nil
			}
			if len(line) > 0 && !yield(line) {
				return
			}
		}
	}
}

// appendID appends a field whose value is an id; lead is everything up to the opening quote.
func appendID(b []byte, lead string, id ID) []byte {
	b = append(b, lead...)
	b = id.append(b)
	return append(b, '"')
}

func appendNumber(b []byte, lead string, n int64) []byte {
	return strconv.AppendInt(append(b, lead...), n, 10)
}
