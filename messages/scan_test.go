// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"strings"
	"testing"
)

// TestIsPlain tries each byte at each place of a text that is otherwise plain.
func TestIsPlain(t *testing.T) {
	for _, around := range []string{"a", " ", "~", "]", "[", "\x7f"} {
		for length := range 20 {
			for at := range length {
				for c := range 256 {
					text := []byte(strings.Repeat(around, length))
					text[at] = byte(c)
					if want := c >= 0x20 && c < 0x80 && c != '\\'; isPlain(text) != want {
						t.Fatalf("%q is plain: %v", text, !want)
					}
				}
			}
		}
	}
}
