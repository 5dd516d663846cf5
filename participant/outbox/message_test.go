// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

// What goes into a payload comes out of it, byte for byte.
func TestPropertyOfThePayload(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Message{
			Subject: rapid.String().Draw(t, "subject"),
			Data:    rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "data"),
			Stream:  rapid.StringMatching(`[A-Z]*`).Draw(t, "stream"),
			Core:    rapid.Bool().Draw(t, "core"), Bucket: rapid.Bool().Draw(t, "bucket"),
			Header: nats.Header(rapid.MapOf(rapid.String(), rapid.SliceOfN(rapid.String(), 1, 3)).Draw(t, "header")),
		}
		payload, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var got Message
		if err := json.Unmarshal(payload, &got); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		same := got.Subject == m.Subject && bytes.Equal(got.Data, m.Data) && got.Stream == m.Stream && got.Core == m.Core && got.Bucket == m.Bucket &&
			maps.EqualFunc(got.Header, m.Header, slices.Equal[[]string])
		if !same {
			t.Fatalf("%+v came back from %s as %+v", m, payload, got)
		}
	})
}

// A message of text is readable in the log, and costs no more than its quotes.
func TestPayloadOfText(t *testing.T) {
	var payload strings.Builder
	encoder := json.NewEncoder(&payload)
	encoder.SetEscapeHTML(false) // as Tx.Enlist does
	if err := encoder.Encode(text("orders.a", `<b>{"id":7}</b>`)); err != nil {
		t.Fatal(err)
	}
	if want := `{"subject":"orders.a","text":"<b>{\"id\":7}</b>"}` + "\n"; payload.String() != want {
		t.Errorf("%s; want %s", payload.String(), want)
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		filter, subject string
		want            bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a.b", false}, {"a.b", "a", false}, {"a.*", "a.b", true}, {"a.*", "a", false},
		{"a.*", "a.b.c", false}, {"a.>", "a.b.c", true}, {"a.>", "a", false}, {">", "a.b", true}, {"*.b", "a.b", true}, {"*.b", "a.c", false},
		{"a.*.c", "a.b.c", true}, {"a.*.c", "a.b.d", false}, {"*.*", "a.b", true}, {"*", "a.b", false}, {"$KV.b.>", "$KV.b.k.l", true},
	} {
		if got := matches(test.filter, test.subject); got != test.want {
			t.Errorf("%s takes %s: %v", test.filter, test.subject, got)
		}
	}
}
