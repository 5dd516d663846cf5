// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// ID identifies a transaction: a UUIDv7 (RFC 9562, section 5.7), so that an id tells the millisecond at which its
// client minted it. The zero ID is no transaction's.
type ID [16]byte

// ErrBadID is wrapped by every error about an id that is not a canonical UUIDv7.
var ErrBadID = errors.New("not a canonical UUIDv7")

// idText is the length of an id's canonical text: 32 lower-case hexadecimal digits and four hyphens.
const idText = 36

// NewID mints an id from the wall clock and the system's randomness. It panics only when the system has no
// randomness to give.
func NewID() ID { return ID(uuid.Must(uuid.NewV7())) }

// ParseID reads the canonical text of an id: lower case, hyphenated, version 7, RFC variant.
func ParseID(s string) (ID, error) {
	id, ok := parseID(s)
	if !ok {
		return ID{}, badID(s)
	}
	return id, nil
}

// octetAt is where each octet's two digits stand in an id's text.
var octetAt = [16]uint8{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

func parseID[T string | []byte](s T) (id ID, ok bool) {
	if len(s) != idText || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, false
	}
	var all byte
	for i, at := range octetAt {
		high, low := hexValue[s[at]], hexValue[s[at+1]]
		all |= high | low
		id[i] = high<<4 | low
	}
	if all > 0x0f || id[6]>>4 != 7 || id[8]>>6 != 0b10 {
		return ID{}, false
	}
	return id, true
}

func badID(s string) error { return fmt.Errorf("id %.40q: %w", s, ErrBadID) }

// hexValue maps lower-case hexadecimal digits to their value and every other byte to 0xff.
var hexValue = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i, digit := range []byte("0123456789abcdef") {
		table[digit] = byte(i)
	}
	return table
}()

// UnixMilli is the time at which the id was minted, by its client's clock, in Unix milliseconds.
func (id ID) UnixMilli() int64 {
	return int64(binary.BigEndian.Uint64(id[0:8]) >> 16)
}

// Time is UnixMilli as a time.
func (id ID) Time() time.Time { return time.UnixMilli(id.UnixMilli()) }

// IsZero tells whether the id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// Shard is the shard, from 0, that the transaction belongs to when there are n of them: the id's last four bytes, a
// big-endian number and random in every UUIDv7, modulo n. It panics when n is not positive.
func (id ID) Shard(n int) int {
	if n <= 0 {
		panic(fmt.Sprintf("messages: shard of %d shards", n))
	}
	return int(binary.BigEndian.Uint32(id[12:16]) % uint32(n))
}

// Next is the id under which a transaction is tried again that was aborted because one of its keys had moved: the same
// time and the same last four bytes, so that it is of the same shard and as old; bytes 6 to 11 are the first six of the
// SHA-256 of the id's sixteen, with version and variant set again.
//
// It is a function of the id alone, so whoever has the id that a client began with can follow its attempts, from each
// that was aborted with WrongOwner to the next. An attempt must never be submitted before the one before it was aborted so.
func (id ID) Next() ID {
	sum := sha256.Sum256(id[:])
	next := id
	copy(next[6:12], sum[:6])
	next[6] = next[6]&0x0f | 7<<4
	next[8] = next[8]&0x3f | 0b10<<6
	return next
}

// String is the id's canonical text.
func (id ID) String() string { return string(id.append(make([]byte, 0, idText))) }

// MarshalText implements encoding.TextMarshaler with the canonical text.
func (id ID) MarshalText() ([]byte, error) { return id.append(make([]byte, 0, idText)), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it accepts what ParseID accepts.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, ok := parseID(text)
	if !ok {
		return badID(string(text))
	}
	*id = parsed
	return nil
}

const hexDigits = "0123456789abcdef"

func (id ID) append(b []byte) []byte {
	text := [idText]byte{8: '-', 13: '-', 18: '-', 23: '-'}
	for i, at := range octetAt {
		text[at], text[at+1] = hexDigits[id[i]>>4], hexDigits[id[i]&0x0f]
	}
	return append(b, text[:]...)
}
