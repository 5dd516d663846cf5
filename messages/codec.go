// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Decoder decodes records. It remembers the participants' names that it has met, so that the same name is one string,
// allocated once. The zero value is ready; a Decoder must not be used by two goroutines at once.
type Decoder struct {
	names map[string]string
}

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
// newline after the last record may be missing.
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

// appendText appends a field whose value is a string, and nothing for the empty string; lead is everything up to the
// opening quote.
func appendText(b []byte, lead, text string) []byte {
	if text == "" {
		return b
	}
	b = append(b, lead...)
	return append(appendEscaped(b, text), '"')
}

func appendNumber(b []byte, lead string, n int64) []byte {
	return strconv.AppendInt(append(b, lead...), n, 10)
}

// appendEscaped appends text as it stands inside a JSON string. Invalid UTF-8 becomes U+FFFD.
func appendEscaped(b []byte, text string) []byte {
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && width == 1 {
				b = append(append(b, text[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += width
			continue
		}
		b = append(b, text[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0x0f])
		}
		i++
		start = i
	}
	return append(b, text[start:]...)
}

// CutReason shortens a reason to MaxReason bytes, at a character.
func CutReason(reason string) string { return cut(reason, MaxReason) }

func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
