// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// Names are those that the client of JetStream's takes.
func TestNames(t *testing.T) {
	bucket, key := regexp.MustCompile(`^[a-zA-Z0-9_-]+$`), regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[-/_=.a-zA-Z0-9]{0,5}`), rapid.StringMatching(`[a-zA-Z0-9_-]{0,3}`), rapid.String()).Draw(t, "name")
		if got, want := validBucket(name), bucket.MatchString(name); got != want {
			t.Errorf("bucket %q: %v, want %v", name, got, want)
		}
		dots := strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..")
		if got, want := validKey(name), key.MatchString(name) && !dots; got != want {
			t.Errorf("key %q: %v, want %v", name, got, want)
		}
	})
	if bucket.MatchString("a\n") || validBucket("a\n") || validKey("a\n") {
		t.Error("a name ends with a newline")
	}
}

// What an instance makes of an entry that it has written itself is what the next one reads of it.
func TestTheNoteIsWhatIsWritten(t *testing.T) {
	f := start(t)
	s := f.store()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[-/_=a-zA-Z0-9]{1,4}`)
		b := branch(Operation{})
		var op Operation
		for i := range rapid.IntRange(1, 4).Draw(t, "writes") {
			w := Write{Bucket: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "bucket"), Key: key.Draw(t, "key")}
			if rapid.IntRange(0, 3).Draw(t, "kind") > 0 {
				w.Value = rapid.SliceOf(rapid.Byte()).Draw(t, "value")
			} else if w.Delete = i > 0; !w.Delete {
				w.Value = nil
			}
			op.Writes = append(op.Writes, w)
		}
		b.Operations[0].Payload = encode(op)
		b.Operations[0].Keys, b.Operations[0].Shared = op.keys()
		b.Operations[0].Keys = append(b.Operations[0].Keys, rapid.String().Draw(t, "another key"))
		b.Locks = []messages.Lock{{Key: key.Draw(t, "lock"), Token: rapid.StringMatching(`[0-9a-f]{33}`).Draw(t, "token")}}
		switch vote, err := s.Prepare(f.ctx(), b); {
		case errors.Is(err, participant.ErrConflict): // an older token
			return
		case err != nil || vote != participant.Yes && vote != participant.ReadOnly:
			t.Fatal(vote, err)
		case vote == participant.ReadOnly:
			return
		}
		mine, open := s.Entry(b.Tx)
		if mine.Note == nil || !open {
			t.Fatalf("the entry has no note, or is not open: %v", open)
		}
		noted, err := decode(mine)
		if err != nil {
			t.Fatal(err)
		}
		read, err := decode(journal.Entry{Tx: mine.Tx, Data: mine.Data})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*prepared{noted, read} {
			for i := range p.Writes {
				if len(p.Writes[i].Value) == 0 { // nil and empty are one value
					p.Writes[i].Value = nil
				}
			}
		}
		if !reflect.DeepEqual(noted, read) {
			t.Fatalf("noted %+v, written %+v", noted, read)
		}
		if err := s.Rollback(f.ctx(), b.Tx); err != nil {
			t.Fatal(err)
		}
	})
}
