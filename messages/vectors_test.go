// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"testing"
)

// vectors is testdata/vectors.json: what implementations in every language must agree on.
type vectors struct {
	Records []struct {
		Kind   string     `json:"kind"`
		Text   string     `json:"text"`
		Fields wireRecord `json:"fields"`
		// Written is how this implementation writes the fields, when it is not Text.
		Written string `json:"written"`
	} `json:"records"`
	Refused []struct {
		Kind string `json:"kind"`
		Why  string `json:"why"`
		// Text is the line; Bytes (base64) stands for it where it is no valid UTF-8.
		Text  string `json:"text"`
		Bytes []byte `json:"bytes"`
		Error string `json:"error"`
		Field string `json:"field"`
	} `json:"refused"`
	Shards []struct {
		ID     string         `json:"id"`
		Millis int64          `json:"unix_ms"`
		Shards map[string]int `json:"shards"`
	} `json:"shards"`
	// Next has the ids under which a transaction is tried again, one after the other; the first is the client's.
	Next [][]string `json:"next_ids"`
	// Routings are the fingerprints of how operations went to participants.
	Routings []struct {
		Participants []string `json:"participants"`
		Routing      uint64   `json:"routing"`
	} `json:"routings"`
	BadIDs   []string `json:"bad_ids"`
	Subjects []struct {
		Subject     string `json:"subject"`
		Prefix      string `json:"prefix"`
		Shard       int    `json:"shard"`
		Kind        string `json:"kind"`
		Participant string `json:"participant"`
	} `json:"log_subjects"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// texts are all lines for one kind, accepted and refused.
func (v vectors) texts(kind string) (texts []string) {
	for _, record := range v.Records {
		if record.Kind == kind {
			texts = append(texts, record.Text)
		}
	}
	for _, record := range v.Refused {
		if record.Kind == kind {
			texts = append(texts, record.Text+string(record.Bytes))
		}
	}
	return texts
}

func TestVectorRecords(t *testing.T) {
	count := map[string]int{}
	for _, v := range readVectors(t).Records {
		count[v.Kind]++
		if broken, err := kinds[v.Kind].check([]byte(v.Text)); broken != "" || err != nil {
			t.Errorf("%s: %s %v", v.Text, broken, err)
			continue
		}
		view, text, _ := kinds[v.Kind].read([]byte(v.Text))
		if view.text() != v.Fields.text() {
			t.Errorf("%s\nread     %s\nexpected %s", v.Text, view.text(), v.Fields.text())
		}
		written := v.Written
		if written == "" {
			written = v.Text
		}
		if text != written {
			t.Errorf("%s\nwritten  %s\nexpected %s", v.Text, text, written)
		}
	}
	for name := range kinds {
		if count[name] == 0 {
			t.Errorf("no vector is a %s", name)
		}
	}
}

func TestVectorRefused(t *testing.T) {
	sentinels := map[string]error{"malformed": ErrMalformed, "newer_version": ErrNewerVersion, "too_large": ErrTooLarge}
	for _, v := range readVectors(t).Refused {
		line := []byte(v.Text + string(v.Bytes))
		broken, err := kinds[v.Kind].check(line)
		var fault *FieldError
		if broken != "" || !errors.As(err, &fault) || fault.Kind != sentinels[v.Error] || fault.Field != v.Field {
			t.Errorf("%s: %s\n%s\nerror %v, field %+v; expected %s of %q", v.Why, line, broken, err, fault, v.Error, v.Field)
		}
	}
}

func TestVectorShards(t *testing.T) {
	for _, v := range readVectors(t).Shards {
		id, err := ParseID(v.ID)
		if err != nil || id.UnixMilli() != v.Millis {
			t.Errorf("%s: %d, %v", v.ID, id.UnixMilli(), err)
		}
		for count, want := range v.Shards {
			n, _ := strconv.Atoi(count)
			if got := id.Shard(n); got != want {
				t.Errorf("%s is in shard %d of %s; expected %d", v.ID, got, count, want)
			}
		}
	}
	for _, text := range readVectors(t).BadIDs {
		if id, err := ParseID(text); !errors.Is(err, ErrBadID) {
			t.Errorf("%q is %v, %v", text, id, err)
		}
	}
}

func TestVectorNextIDs(t *testing.T) {
	for _, chain := range readVectors(t).Next {
		id, err := ParseID(chain[0])
		if err != nil || len(chain) < 2 {
			t.Fatal(chain, err)
		}
		for _, want := range chain[1:] {
			if got := id.Next().String(); got != want {
				t.Errorf("after %v comes %v; expected %v", id, got, want)
			}
			id = id.Next()
		}
	}
}

func TestVectorRoutings(t *testing.T) {
	for _, v := range readVectors(t).Routings {
		var sub Submission
		for _, name := range v.Participants {
			sub.Operations = append(sub.Operations, Operation{Participant: name})
		}
		if got, _ := sub.Routing(nil); got != 0 {
			t.Errorf("%q, of which none was routed: %d", v.Participants, got)
		}
		sub.Operations[len(sub.Operations)-1].Route = &Route{}
		if got, _ := sub.Routing([]byte("left")); got != v.Routing {
			t.Errorf("%q: %d; expected %d", v.Participants, got, v.Routing)
		}
	}
}

func TestVectorSubjects(t *testing.T) {
	for _, v := range readVectors(t).Subjects {
		kind, participant := Subjects{Prefix: v.Prefix}.ParseLog(v.Shard, v.Subject)
		if kind.String() != v.Kind || participant != v.Participant {
			t.Errorf("%s in shard %d is %v of %q; expected %s of %q", v.Subject, v.Shard, kind, participant, v.Kind, v.Participant)
		}
	}
}
