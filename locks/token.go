// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// Token is a fencing token: it says which of two grants of one key is the later one, whatever the clocks say. A resource that
// remembers the greatest token that it has seen, and refuses lesser ones, is safe from a holder that was paused beyond
// its lease (Kleppmann, "How to do distributed locking", 2016; Burrows, "The Chubby lock service", OSDI 2006, section
// 2.4, "sequencers").
//
// Tokens of one key grow strictly from one exclusive grant to the next, also across restarts of every process and server,
// and across deletion and re-creation of the bucket. Tokens of different keys must not be compared. Holders of one shared
// lock, or of one semaphore, may have equal tokens.
type Token struct {
	// Incarnation is when the stream that holds the key was created, by its server's clock, in Unix nanoseconds.
	Incarnation uint64
	// Sequence is the place in that stream of the write that granted the lock.
	Sequence uint64
}

// Compare is negative if t was granted before u, zero if they are the same, positive if t was granted after u.
func (t Token) Compare(u Token) int {
	return cmp.Or(cmp.Compare(t.Incarnation, u.Incarnation), cmp.Compare(t.Sequence, u.Sequence))
}

// IsZero tells whether the token is none: every real token is greater.
func (t Token) IsZero() bool { return t == Token{} }

// String is 16 and 16 hexadecimal digits with a hyphen between: strings of tokens sort bytewise as the tokens do, so
// that a resource in any language can compare them.
func (t Token) String() string { return fmt.Sprintf("%016x-%016x", t.Incarnation, t.Sequence) }

// errToken is what ParseToken says of anything else.
var errToken = errors.New("want 16 hexadecimal digits, a hyphen and 16 more")

// ParseToken reads what Token.String gives, and nothing else.
func ParseToken(text string) (Token, error) {
	if len(text) != 33 || text[16] != '-' {
		return Token{}, fmt.Errorf("locks: token %.40q: %w", text, errToken)
	}
	incarnation, err1 := strconv.ParseUint(text[:16], 16, 64)
	sequence, err2 := strconv.ParseUint(text[17:], 16, 64)
	token := Token{incarnation, sequence}
	if err1 != nil || err2 != nil || token.String() != text {
		return Token{}, fmt.Errorf("locks: token %.40q: %w", text, errToken)
	}
	return token, nil
}

// MarshalText implements encoding.TextMarshaler: the form of String.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Token) UnmarshalText(text []byte) (err error) {
	*t, err = ParseToken(string(text))
	return err
}
