// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/assent-tx/assent/locks/internal/record"

// Ask is a message from a session to a keeper.
type Ask struct {
	// From is the session that asks.
	From string `json:"from"`
	// Revision is the version by which it takes the other for the keeper.
	Revision uint64 `json:"revision"`
	// Join are operations that want to hold the key; those of From, or handed on by it.
	Join []record.Operation `json:"join,omitempty"`
	// Leave are ids of operations that give the key back, or do not wait for it any more, or whose sessions have ended.
	Leave []string `json:"leave,omitempty"`
}

// Tell is a message from a session to one that asked, or that a write concerns.
type Tell struct {
	From string `json:"from"`
	// Revision and Record are the newest version that From knows; tokens are complete. Whoever is noted does not need the
	// record, and gets Keeper alone: the session that writes it now.
	Revision uint64         `json:"revision"`
	Record   *record.Record `json:"record,omitempty"`
	Keeper   string         `json:"keeper,omitempty"`
	// Noted are operations of the receiver that wait though the record does not have them yet.
	Noted []Noted `json:"noted,omitempty"`
	// Refused are operations of the receiver that were not taken.
	Refused []Refused `json:"refused,omitempty"`
	// Join and Leave are what the keeper was asked too late for its last write: the new keeper takes them over.
	Join  []record.Operation `json:"join,omitempty"`
	Leave []string           `json:"leave,omitempty"`
}

// Noted is an operation that a keeper knows, and how many wait before it.
type Noted struct {
	ID    string `json:"id"`
	Ahead int    `json:"ahead"`
}

// Refused is an operation that a keeper did not take, and why.
type Refused struct {
	ID  string `json:"id"`
	Why Reason `json:"why"`
}

// Reason is why an operation was not taken, or ended.
type Reason string

// The reasons.
const (
	Busy    Reason = "busy"    // it would have had to wait, and did not want to
	Full    Reason = "full"    // as many wait as may
	Permits Reason = "permits" // the key is in use with another number of permits
	Forced  Reason = "forced"  // it held the key and was released by force
	Gone    Reason = "gone"    // it held the key and the record has it no more

	Unwritten Reason = "unwritten" // the server did not store it
)

// Effect is something for the shell to do. Exactly one field is set.
type Effect struct {
	// Write asks for a compare-and-swap, answered by Written, Conflict, Unknown or Refused. At most one is under way.
	Write *Write
	// Read asks for the newest version, answered by Read or ReadFailed. At most one is under way.
	Read bool
	// Ask and Tell go To a session by message, which may get lost.
	Ask  *Ask
	Tell *Tell
	To   string
	// Ended and Granted are fates of local operations.
	Granted *Granted
	Ended   *Ended
	// Waiting says where a local operation is in the queue.
	Waiting *Noted
}

// Write is a compare-and-swap of the record.
type Write struct {
	Expected uint64 // the revision that it replaces
	Record   record.Record
}

// Granted says that a local operation holds the key.
type Granted struct {
	ID    string
	Token uint64
}

// Ended says that a local operation is over: given back or withdrawn (Why is ""), not taken, or lost.
type Ended struct {
	ID  string
	Why Reason
	// Record is the version that says so.
	Record record.Record
}
