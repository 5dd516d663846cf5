// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assent-tx/assent/messages"
)

// Operation is the payload of an operation for the participant: what was read, and what is to be written if nothing of that has
// changed. As JSON it is what a client in another language sends:
//
//	{"reads": [{"bucket":"stock","key":"apple","revision":17}],
//	 "writes":[{"bucket":"stock","key":"pear","revision":0,"value":"MTI="},{"bucket":"carts","key":"42","delete":true}]}
//
// The operation has to name the key of each read (KeyName) as shared, and of each write as its own; Enlist does.
type Operation struct {
	Reads  []Read  `json:"reads,omitempty"`
	Writes []Write `json:"writes,omitempty"`
}

// Read is a key of a bucket that was read.
type Read struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Revision is that of the value which was read, or of the marker of a deletion; 0 when there was nothing.
	Revision uint64 `json:"revision"`
}

// Write is a key of a bucket that is to be written.
type Write struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Revision is what the key must have, as in Read; nil when that does not matter.
	Revision *uint64 `json:"revision,omitempty"`
	// Value is the new value; in JSON it is in base64. With Delete there is none.
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
}

// KeyName is the name by which a key of a bucket is locked (assent.Keys and assent.SharedKeys).
func KeyName(bucket, key string) string { return "kv/" + bucket + "/" + key }

// validBucket and validKey tell whether JetStream takes a name.
func validBucket(name string) bool { return consists(name, "_-") }

func validKey(key string) bool {
	return consists(key, "-/_=.") && key[0] != '.' && key[len(key)-1] != '.' && !strings.Contains(key, "..")
}

// consists tells whether a text has letters, digits and some others, and nothing else, and at least one.
func consists(text, others string) bool {
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return false
		}
	}
	return text != ""
}

// ErrInvalid is of a bucket's or key's name that JetStream does not take, and of an operation that contradicts itself.
var ErrInvalid = errors.New("invalid")

func checkNames(bucket, key string) error {
	if !validBucket(bucket) {
		return fmt.Errorf("%w: bucket %.80q: want [a-zA-Z0-9_-]", ErrInvalid, bucket)
	}
	if !validKey(key) {
		return fmt.Errorf("%w: key %.80q of bucket %s: want [-/_=.a-zA-Z0-9], without dots that begin, end or follow each other", ErrInvalid, key, bucket)
	}
	if n := len(KeyName(bucket, key)); n > messages.MaxKey {
		return fmt.Errorf("%w: key %.80q of bucket %s: its name is %d bytes with the bucket's, at most %d", ErrInvalid, key, bucket, n, messages.MaxKey)
	}
	return nil
}

// ref names a key of a bucket.
type ref struct{ bucket, key string }

func (r ref) String() string { return r.bucket + "/" + r.key }

func (r ref) subject() string { return "$KV." + r.bucket + "." + r.key }

// change is a write of a branch.
type change struct {
	ref
	value  []byte
	delete bool
}

// demands is what the operations of a branch come to: each key once.
type demands struct {
	// revisions are what the keys must have, as far as that matters.
	revisions map[ref]uint64
	// refs are all the keys, in the order in which they were named.
	refs    []ref
	changes map[ref]change
}

// collect adds an operation. Of several writes to a key the last counts; all revisions that are named for it must be the same.
func (d *demands) collect(op *Operation) error {
	for i := range op.Reads {
		r := &op.Reads[i]
		if err := d.demand(ref{r.Bucket, r.Key}, &r.Revision); err != nil {
			return fmt.Errorf("reads[%d]: %w", i, err)
		}
	}
	for i := range op.Writes {
		w := &op.Writes[i]
		if w.Delete && len(w.Value) > 0 {
			return fmt.Errorf("writes[%d]: %w: both delete and a value", i, ErrInvalid)
		}
		r := ref{w.Bucket, w.Key}
		if err := d.demand(r, w.Revision); err != nil {
			return fmt.Errorf("writes[%d]: %w", i, err)
		}
		d.changes[r] = change{r, w.Value, w.Delete}
	}
	return nil
}

func (d *demands) demand(r ref, revision *uint64) error {
	if err := checkNames(r.bucket, r.key); err != nil {
		return err
	}
	if d.changes == nil {
		d.changes, d.revisions = make(map[ref]change), make(map[ref]uint64)
	}
	known, demanded := d.revisions[r]
	if _, written := d.changes[r]; !written && !demanded {
		d.refs = append(d.refs, r)
	}
	if revision == nil {
		return nil
	}
	if demanded && known != *revision {
		return fmt.Errorf("%w: key %s was read at revision %d and at %d", ErrInvalid, r, known, *revision)
	}
	d.revisions[r] = *revision
	return nil
}
