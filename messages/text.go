// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// unescape gives the text of a string that has escapes; raw is what stands between the quotes, already checked. It
// leaves the work to encoding/json, whose reading of lone surrogates (U+FFFD) is thereby ours.
func unescape(raw []byte) []byte {
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	var text string
	if err := json.Unmarshal(quoted, &text); err != nil {
		panic("messages: checked string: " + err.Error())
	}
	return []byte(text)
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

// appendCut is appendText of at most limit bytes of text: what people are told must not make a record malformed.
func appendCut(b []byte, lead, text string, limit int) []byte {
	return appendText(b, lead, cutValid(text, limit))
}

// shortEscape is the letter of a two-byte escape, 0 for bytes that have none.
var shortEscape = [utf8.RuneSelf]byte{
	'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't',
}

// appendEscaped appends text as it stands inside a JSON string, in as few bytes as JSON can, so that what was decoded
// never grows when it is encoded again. Each byte of invalid UTF-8 becomes U+FFFD.
func appendEscaped(b []byte, text string) []byte {
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && width == 1 {
				b = append(append(b, text[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += width
			continue
		}
		if c < 0x20 || c == '"' || c == '\\' {
			b = append(b, text[start:i]...)
			if short := shortEscape[c]; short != 0 {
				b = append(b, '\\', short)
			} else {
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0x0f])
			}
			start = i + 1
		}
		i++
	}
	return append(b, text[start:]...)
}

// CutReason shortens a reason to MaxReason bytes, at a character, and makes it valid UTF-8. The encoders of records
// with a reason do the same.
func CutReason(reason string) string { return cutValid(reason, MaxReason) }

// cutValid is cut for text that may be invalid UTF-8: a run of invalid bytes becomes one U+FFFD first, because that
// is longer than the byte that it stands for.
func cutValid(text string, limit int) string {
	return cut(strings.ToValidUTF8(text, "\ufffd"), limit)
}

func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}
