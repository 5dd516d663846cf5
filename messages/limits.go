// SPDX-License-Identifier: Apache-2.0

package messages

import "time"

// Version is the protocol version that this package speaks. A record may carry "v"; absent means 1.
const Version = 1

// The limits of the protocol. Each one is enforced where a transaction enters (the client and the leader) and again
// where a record is decoded.
const (
	// MaxParticipants is how many participants a transaction may have.
	MaxParticipants = 64
	// MaxOperations is how many operations a transaction may have, over all its participants.
	MaxOperations = 1024
	// MaxKeys is how many keys an operation may name, exclusive and shared ones together.
	MaxKeys = 1024
	// MaxKey is the longest key, in bytes.
	MaxKey = 1024
	// MaxLocks is how many locks a transaction may carry.
	MaxLocks = 64
	// MaxToken is the longest fencing token of a lock, in bytes.
	MaxToken = 64
	// MaxRouteKey is the longest key that an operation may be routed by, in bytes: as long as any other key, so that one
	// can be both.
	MaxRouteKey = MaxKey
	// MaxRecord is the largest record, in bytes, and the largest whole submission.
	MaxRecord = 256 << 10
	// MaxMessage is the largest message body, in bytes; a message holds as many records as fit.
	MaxMessage = 900 << 10
	// MaxRecords is how many records a message may carry.
	MaxRecords = 512
	// MaxName is the longest participant name, in bytes.
	MaxName = 64
	// MaxReason is the longest reason that is kept, in bytes; a longer one is cut at a character.
	MaxReason = 1024
	// MaxTrace is the longest trace context (W3C traceparent), in bytes.
	MaxTrace = 128
	// MaxDepth is how many objects and arrays of a payload may stand inside one another.
	MaxDepth = 128
	// DefaultTimeout is a transaction's time to be decided when its client names none.
	DefaultTimeout = 30 * time.Second
	// MinTimeout and MaxTimeout bound a transaction's time to be decided.
	MinTimeout = time.Second
	MaxTimeout = 24 * time.Hour
)

// ValidName tells whether name is one that a participant may have: one NATS subject token of 1 to MaxName of
// [A-Za-z0-9_-].
func ValidName(name string) bool { return madeOf(name, MaxName, &nameByte) }

// ValidToken tells whether token can be the fencing token of a lock: 1 to MaxToken of [A-Za-z0-9_.:-].
func ValidToken(token string) bool { return madeOf(token, MaxToken, &tokenByte) }

// madeOf tells whether text is 1 to limit of the bytes in the table.
func madeOf(text string, limit int, table *[256]bool) bool {
	if text == "" || len(text) > limit {
		return false
	}
	for i := range len(text) {
		if !table[text[i]] {
			return false
		}
	}
	return true
}

const nameBytes = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

var nameByte, tokenByte = tableOf(nameBytes), tableOf(nameBytes + ".:")

func tableOf(bytes string) (table [256]bool) {
	for i := range len(bytes) {
		table[bytes[i]] = true
	}
	return table
}
