// SPDX-License-Identifier: Apache-2.0

// Package record is what is stored of a key: who holds it, who waits for it, and how both change. It is pure: no I/O, no
// clock. Every writer, whoever it is, changes a record only by the methods here and stores the result by compare-and-swap
// on the version that it changed, so a record goes from one right state to the next.
package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Version is the version of the format.
const Version = 1

// Bounds of a record, so that it fits into a message whatever happens.
const (
	// MaxQueue is how many operations may wait.
	MaxQueue = 512
	// MaxHolders is how many may hold a shared lock at a time; others wait.
	MaxHolders = 512
	// MaxForced is how many grants that were taken back by force are remembered.
	MaxForced = 16
)

// Operation is one wish to hold the key: from a call of Lock until it is given back.
type Operation struct {
	// ID is the session's id, a hyphen and a number: no two operations ever have the same.
	ID string `json:"id"`
	// Owner says who it is, for people.
	Owner string `json:"owner,omitempty"`
	// Shared operations may hold a lock together. Of no meaning for semaphores.
	Shared bool `json:"shared,omitempty"`
	// Try operations never wait: they are in no record's queue.
	Try bool `json:"try,omitempty"`
	// Permits is what the operation takes the key for: a semaphore that so many may hold, or 0, a lock.
	Permits int `json:"permits,omitempty"`
	// TTL is the session's, in ms: whoever sees no sign of life for that long may end the session.
	TTL int64 `json:"ttl"`
	// Since is when the wish began, or for a holder when it was granted, by the clock of who granted it, in Unix ms. For people
	// only.
	Since int64 `json:"since"`
}

// Session is the session that an operation belongs to.
func Session(id string) string {
	session, _, _ := strings.Cut(id, "-")
	return session
}

// Session is the session that the operation belongs to.
func (op *Operation) Session() string { return Session(op.ID) }

// Holder is an operation that holds the key.
type Holder struct {
	Operation
	// Token is the sequence of the version that granted it; 0 in the version that does.
	Token uint64 `json:"token,omitempty"`
}

// Grant is one grant: an operation may be granted again after it was taken out by force.
type Grant struct {
	ID    string `json:"id"`
	Token uint64 `json:"token"`
}

// Record is one version of a key's state. The zero Record is a key that nobody holds.
//
// Invariants: holders are compatible with each other; the queue is empty, or its first may not join the holders; no
// operation is in it twice.
type Record struct {
	V int `json:"v"`
	// Permits makes it a semaphore that so many may hold; 0 is a lock.
	Permits int `json:"permits,omitempty"`
	// Holders hold the key, in the order in which they came. The first one's session is the keeper.
	Holders []Holder `json:"holders,omitempty"`
	// Queue waits for it, first come first.
	Queue []Operation `json:"queue,omitempty"`
	// Forced are the grants that were last taken back by force.
	Forced []Grant `json:"forced,omitempty"`
	// Foreign says that the version was not written as a record: somebody deleted the key by other means. It is not stored.
	Foreign bool `json:"-"`
}

// ErrNewer is the error of Decode for a record that a later version of this package wrote.
var ErrNewer = errors.New("the record was written by a newer version")

// Decode reads a record as the version of a sequence: holders that this version granted get it as their token.
func Decode(data []byte, sequence uint64) (Record, error) {
	var r Record
	if len(data) == 0 {
		return Record{Foreign: true}, nil
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("malformed record: %w", err)
	}
	if r.V > Version {
		return Record{}, fmt.Errorf("%w: %d; this program knows %d", ErrNewer, r.V, Version)
	}
	r.Stored(sequence)
	return r, nil
}

// Encode is the form that is stored.
func (r *Record) Encode() []byte {
	r.V = Version
	data, err := json.Marshal(r)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

// Stored completes the tokens of a record that was stored with a sequence.
func (r *Record) Stored(sequence uint64) {
	for i := range r.Holders {
		if r.Holders[i].Token == 0 {
			r.Holders[i].Token = sequence
		}
	}
}

// Granted notes when those were granted who were not stored as holders yet.
func (r *Record) Granted(unixMilli int64) {
	for i := range r.Holders {
		if r.Holders[i].Token == 0 {
			r.Holders[i].Since = unixMilli
		}
	}
}

// Clone is a copy that shares nothing.
func (r *Record) Clone() Record {
	c := *r
	c.Holders, c.Queue, c.Forced = slices.Clone(r.Holders), slices.Clone(r.Queue), slices.Clone(r.Forced)
	return c
}

// Free tells whether nobody holds the key or waits for it.
func (r *Record) Free() bool { return len(r.Holders) == 0 && len(r.Queue) == 0 }

// Keeper is the session that writes the record while the key is held, "" when it is not.
func (r *Record) Keeper() string {
	if len(r.Holders) == 0 {
		return ""
	}
	return r.Holders[0].Session()
}

// Holder is the holder with an id, nil when it does not hold.
func (r *Record) Holder(id string) *Holder {
	for i := range r.Holders {
		if r.Holders[i].ID == id {
			return &r.Holders[i]
		}
	}
	return nil
}

// Ahead is how many operations wait before one in the queue; -1 when it is not there.
func (r *Record) Ahead(id string) int {
	return slices.IndexFunc(r.Queue, func(op Operation) bool { return op.ID == id })
}

// Has tells whether an operation holds or waits.
func (r *Record) Has(id string) bool { return r.Holder(id) != nil || r.Ahead(id) >= 0 }

// Why Join did not take an operation.
var (
	// ErrBusy: the operation would have to wait, and does not want to.
	ErrBusy = errors.New("held")
	// ErrFull: as many wait as may.
	ErrFull = errors.New("the queue is full")
	// ErrPermits: the key is in use with another number of permits.
	ErrPermits = errors.New("in use with another number of permits")
)

// Join lets an operation hold the key if it may at once, and otherwise puts it at the end of the queue. It changes
// nothing when it gives an error, or when the operation is there already.
func (r *Record) Join(op Operation) error {
	switch {
	case r.Has(op.ID):
		return nil
	case r.Free():
		r.Permits = op.Permits
		r.grant(op)
		return nil
	case r.Permits != op.Permits:
		return ErrPermits
	case len(r.Queue) == 0 && r.admits(&op):
		r.grant(op)
		return nil
	case op.Try:
		return ErrBusy
	case len(r.Queue) >= MaxQueue:
		return ErrFull
	}
	r.Queue = append(r.Queue, op)
	return nil
}

// Leave takes an operation out, and lets those in who may come in then.
func (r *Record) Leave(id string) { r.remove(func(op *Operation) bool { return op.ID == id }) }

// Evict takes all operations of a session out, and lets those in who may come in then.
func (r *Record) Evict(session string) {
	r.remove(func(op *Operation) bool { return op.Session() == session })
}

// Force takes the holders out, remembers that, and lets those in who may come in then.
func (r *Record) Force() {
	for i := range r.Holders {
		r.Forced = append(r.Forced, Grant{r.Holders[i].ID, r.Holders[i].Token})
	}
	r.Forced = r.Forced[max(0, len(r.Forced)-MaxForced):]
	r.Holders = nil
	r.admit()
}

func (r *Record) remove(leaves func(*Operation) bool) {
	r.Holders = slices.DeleteFunc(r.Holders, func(h Holder) bool { return leaves(&h.Operation) })
	r.Queue = slices.DeleteFunc(r.Queue, func(op Operation) bool { return leaves(&op) })
	r.admit()
}

// admit lets in from the head of the queue, and only from there: so nobody overtakes, and writers do not starve.
func (r *Record) admit() {
	n := 0
	for n < len(r.Queue) && r.admits(&r.Queue[n]) {
		r.grant(r.Queue[n])
		n++
	}
	r.Queue = slices.Delete(r.Queue, 0, n)
	if r.Free() {
		r.Permits = 0
	}
}

func (r *Record) admits(op *Operation) bool {
	switch {
	case len(r.Holders) == 0:
		return true
	case r.Permits > 0:
		return len(r.Holders) < r.Permits
	default:
		return op.Shared && r.Holders[0].Shared && len(r.Holders) < MaxHolders
	}
}

func (r *Record) grant(op Operation) {
	op.Try = false
	r.Holders = append(r.Holders, Holder{Operation: op})
}

// SameHolders tells whether two versions are held by the same operations in the same order.
func (r *Record) SameHolders(o *Record) bool {
	return slices.EqualFunc(r.Holders, o.Holders, func(a, b Holder) bool { return a.ID == b.ID })
}

// Same tells whether two versions hold and queue the same operations in the same order.
func (r *Record) Same(o *Record) bool {
	return r.SameHolders(o) && slices.EqualFunc(r.Queue, o.Queue, func(a, b Operation) bool { return a.ID == b.ID })
}
