// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/assent-tx/assent/router/ring"
)

func TestNew(t *testing.T) {
	r, err := New("g", 5, Settings{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (Settings{Partitions: 4096, Kind: Data, GraceMS: 5000, Batch: 128}); r.Settings != want || r.Epoch != 1 || r.Ring().Partitions() != 4096 {
		t.Errorf("%+v", r)
	}
	if r, err = New("g", 5, Settings{GraceMS: -7}); err != nil || r.GraceMS != -1 || r.grace() != 0 {
		t.Errorf("at once: %+v, %v", r, err)
	}
	for _, c := range []struct {
		group       string
		incarnation uint64
		s           Settings
		says        string
	}{
		{"", 1, Settings{}, `group ""`},
		{"a b", 1, Settings{}, `group "a b"`},
		{strings.Repeat("a", 65), 1, Settings{}, "1 to 64"},
		{"g", 0, Settings{}, "incarnation 0"},
		{"g", 1 << 53, Settings{}, "incarnation 9007199254740992: want 1 to 9007199254740991"},
		{"g", 1, Settings{Partitions: -1}, "partitions -1: want 1 to 65536"},
		{"g", 1, Settings{Partitions: 65537}, "partitions 65537"},
		{"g", 1, Settings{Kind: "date"}, `kind "date": want instant, handoff or data`},
		{"g", 1, Settings{GraceMS: 86_400_001}, "grace 86400001 ms"},
		{"g", 1, Settings{Batch: -1}, "batch -1"},
		{"g", 1, Settings{Batch: 1025}, "batch 1025: want 1 to 1024"},
	} {
		if _, err := New(c.group, c.incarnation, c.s); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestRecordReads(t *testing.T) {
	r := draw(t, "handoff 7 | a a1 | b b1 down x3 | s - | aabs. -> bsaaa | 0=a 3=s | 0@5 1@7")
	for p, want := range []struct {
		owner, target string
		since         uint64
	}{{"a", "b", 5}, {"a", "s", 7}, {"b", "a", 0}, {"s", "a", 0}, {"", "a", 0}} {
		if r.Owner(p) != want.owner || r.Target(p) != want.target || r.Since(p) != want.since {
			t.Errorf("partition %d: %s to %s since %d", p, r.Owner(p), r.Target(p), r.Since(p))
		}
	}
	for _, p := range []int{-1, 5, 1 << 20} {
		if r.Owner(p) != "" || r.Target(p) != "" || r.Since(p) != 0 {
			t.Errorf("partition %d is somebody's", p)
		}
	}
	if r.Node("b").Weight != 3 || r.Node("c") != nil || r.Node("") != nil {
		t.Error("nodes")
	}
	for _, c := range []struct {
		incarnation, epoch uint64
		after              bool
	}{{100, 6, true}, {100, 7, false}, {100, 8, false}, {99, 9, true}, {101, 1, false}, {0, 0, true}} {
		if r.After(c.incarnation, c.epoch) != c.after {
			t.Errorf("after %d.%d: %v", c.incarnation, c.epoch, !c.after)
		}
	}
}

// err is what is wrong with a record.
func (r *Record) err() error { return errors.Join(r.check(), r.checkMoves()) }

// garbage is what Decode refuses: a replacement in a good record, and what it must say.
var garbage = []struct{ old, made, says string }{
	{`{`, ``, "malformed record"},
	{`"v":1`, `"v":0`, "version 0: want 1"},
	{`"v":1`, `"v":-1`, "version -1"},
	{`"v":1`, `"v":"1"`, "malformed record"},
	{`"group":"g"`, `"group":"g.h"`, `group "g.h"`},
	{`"incarnation":100`, `"incarnation":0`, "incarnation 0"},
	{`"incarnation":100`, `"incarnation":-1`, "malformed record"},
	{`"incarnation":100`, `"incarnation":9007199254740992`, "incarnation 9007199254740992"},
	{`"epoch":7`, `"epoch":0`, "epoch 0"},
	{`"epoch":7`, `"epoch":4`, "since epoch 5: want 1 to 4"},
	{`"kind":"handoff"`, `"kind":""`, `kind ""`},
	{`"kind":"handoff"`, `"kind":"instant"`, "moves in a group of kind instant"},
	{`"partitions":3`, `"partitions":4`, "3 bytes: want 4 for 4 partitions"},
	{`"partitions":3`, `"partitions":0`, "partitions 0"},
	{`"partitions":3`, `"partitions":1000000000`, "partitions 1000000000"},
	{`"grace_ms":1000`, `"grace_ms":0`, "grace 0"},
	{`"grace_ms":1000`, `"grace_ms":-2`, "grace -2"},
	{`"batch":2`, `"batch":0`, "batch 0"},
	{`"name":"b"`, `"name":"a"`, "not sorted, or one is twice"},
	{`"name":"b"`, `"name":"A"`, "not sorted"},
	{`"name":"b"`, `"name":"b "`, `node "b "`},
	{`"weight":1`, `"weight":1001`, "node a: weight 1001"},
	{`"session":"a1"`, `"session":""`, `node a: session ""`},
	{`"session":"a1"`, `"session":"a1","static":true`, "node a is static, and has a session"},
	{`"session":"a1"`, `"session":"a1","subject":">"`, `subject ">"`},
	{`"session":"a1"`, `"session":"a1","down":true`, "nobody has to release it"},
	{`"revision":10`, `"revision":9007199254740992`, "revision 9007199254740992"},
	{`"pins":{"1":"b"}`, `"pins":{"3":"b"}`, "a pin of partition 3: want 0 to 2"},
	{`"pins":{"1":"b"}`, `"pins":{"-1":"b"}`, "a pin of partition -1"},
	{`"pins":{"1":"b"}`, `"pins":{"x":"b"}`, "malformed record"},
	{`"pins":{"1":"b"}`, `"pins":{"1":""}`, `pin to node ""`},
	{`"owners":"AQIC"`, `"owners":"AQID"`, "partition 2 is node 3's of 2"},
	{`"owners":"AQIC"`, `"owners":"AQI"`, "2 bytes: want 3"},
	{`"owners":"AQIC"`, `"owners":"AQ?C"`, "owners: illegal base64"},
	{`"owners":"AQIC"`, `"owners":"AAIC"`, "nobody has to release it"},
	{`"target":"AgIC"`, `"target":"AgI"`, "target: 2 bytes"},
	{`"target":"AgIC"`, `"target":"AQIC"`, "nobody has to release it"},
	{`"moving":[{"partition":0,"since":5}]`, `"moving":[{"partition":0,"since":0}]`, "since epoch 0"},
	{`"moving":[{"partition":0,"since":5}]`, `"moving":[{"partition":3,"since":5}]`, "a move of partition 3"},
	{`"moving":[{"partition":0,"since":5}]`, `"moving":[{"partition":0,"since":5},{"partition":0,"since":5}]`, "not sorted"},
	{`"moving":[{"partition":0,"since":5}]`, `"moving":[{"partition":0,"since":5},{"partition":1,"since":5},{"partition":2,"since":5}]`, "3 moves: at most 2"},
}

func TestDecodeGarbage(t *testing.T) {
	good := draw(t, "handoff 7 | a a1 | b b1 | abb -> bbb | 1=b | 0@5").Encode()
	if _, err := Decode(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range garbage {
		if strings.Count(string(good), c.old) == 0 {
			t.Fatalf("%s is not in %s", c.old, good)
		}
		bad := strings.Replace(string(good), c.old, c.made, 1)
		if _, err := Decode([]byte(bad)); !errors.Is(err, ErrGarbage) || errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.made, err)
		}
	}
	for _, bad := range []string{"", "null", "1", "[]", `{}`, `{"v":1}`, string(good) + "x"} {
		if _, err := Decode([]byte(bad)); !errors.Is(err, ErrGarbage) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDecodeNewer(t *testing.T) {
	for _, newer := range []string{`{"v":2}`, `{"v":2,"epoch":"seven","nodes":7}`} {
		if _, err := Decode([]byte(newer)); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "record written by a newer version: 2; this program knows 1") {
			t.Errorf("%s: %v", newer, err)
		}
		if _, err := DecodePresence([]byte(newer)); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "presence") {
			t.Errorf("%s: %v", newer, err)
		}
	}
	later := bytes.Replace(draw(t, "data 2 | a a1 | a").Encode(), []byte(`{"v":1`), []byte(`{"later":{"x":1},"v":1`), 1)
	if r, err := Decode(later); err != nil || show(r) != "data 2 | a a1 | a" {
		t.Errorf("a field that is not known: %v", err)
	}
	padded := bytes.Replace(draw(t, "data 2 | a a1 | a").Encode(), []byte(`"AQ"`), []byte(`"AQ=="`), 1)
	if r, err := Decode(padded); err != nil || show(r) != "data 2 | a a1 | a" {
		t.Errorf("with padding: %v", err)
	}
}

// TestRecordFits: a record at every bound fits into a message of the server's default, 1 MiB, and is read again.
func TestRecordFits(t *testing.T) {
	r, err := New(strings.Repeat("g", MaxName), MaxNumber, Settings{Partitions: ring.MaxPartitions, Kind: HandOff, GraceMS: MaxGrace, Batch: MaxBatch})
	if err != nil {
		t.Fatal(err)
	}
	r.Epoch = MaxNumber
	name := func(i int) string { return fmt.Sprintf("%064d", i) }
	for i := range ring.MaxNodes {
		r.Nodes = append(r.Nodes, Node{
			Name: name(i), Weight: ring.MaxWeight, Zone: strings.Repeat("z", MaxName), Subject: strings.Repeat("s", MaxSubject),
			Session: strings.Repeat("x", MaxSession), Revision: MaxNumber, Leaving: i%2 == 0, Removing: true,
		})
	}
	for i := range MaxPins {
		r.Pins[ring.MaxPartitions-1-i] = name(i)
	}
	owners, targets := make([]string, r.Partitions), make([]string, r.Partitions)
	for p := range owners {
		owners[p], targets[p] = name(p%ring.MaxNodes), name((p+1)%ring.MaxNodes)
	}
	for i := range MaxBatch {
		r.Moving = append(r.Moving, Move{ring.MaxPartitions - MaxBatch + i, MaxNumber})
	}
	r.complete(r.tableOf(owners), r.tableOf(targets))
	if err := r.err(); err != nil {
		t.Fatal(err)
	}
	data := r.Encode()
	t.Logf("%d bytes", len(data))
	if len(data) > 1000<<10 {
		t.Errorf("%d bytes", len(data))
	}
	again, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Encode(), data) {
		t.Error("read again, it is another")
	}
}

func TestPresence(t *testing.T) {
	p := Presence{Session: "a1", Weight: 2, Zone: "z", Subject: "x.y", Leaving: true, Incarnation: 7, Released: []Move{{1, 5}}, Revision: 9}
	again, err := DecodePresence(p.Encode())
	if err != nil || !bytes.Equal(again.Encode(), p.Encode()) || again.V != Version || again.Revision != 0 || p.V != 0 {
		t.Errorf("%+v, %v", again, err)
	}
	released := make([]Move, MaxBatch)
	for i := range released {
		released[i] = Move{ring.MaxPartitions - 1, MaxNumber}
	}
	most := Presence{Session: strings.Repeat("s", MaxSession), Weight: ring.MaxWeight, Incarnation: MaxNumber, Released: released}
	if _, err := DecodePresence(most.Encode()); err != nil || len(most.Encode()) > 64<<10 {
		t.Errorf("%d bytes, %v", len(most.Encode()), err)
	}
	for _, bad := range []string{
		``, `{}`, `{"v":1}`, `{"v":1,"session":"a.b"}`, `{"v":1,"session":"a","weight":-1}`, `{"v":1,"session":"a","weight":1001}`,
		`{"v":1,"session":"a","weight":1,"zone":"."}`, `{"v":1,"session":"a","weight":1,"subject":"a b"}`,
		`{"v":1,"session":"a","weight":1,"incarnation":9007199254740992}`, `{"v":1,"session":"a","weight":1,"released":[{"partition":-1,"since":1}]}`,
		`{"v":1,"session":"a","weight":1,"released":[{"partition":65536,"since":1}]}`, `{"v":1,"session":"a","weight":1,"released":[{"partition":0,"since":0}]}`,
		`{"v":1,"session":"a","weight":1,"released":` + string(encode(append(released, Move{1, 1}))) + `}`,
	} {
		if p, err := DecodePresence([]byte(bad)); !errors.Is(err, ErrGarbage) {
			t.Errorf("%.100s: %+v, %v", bad, p, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, c := range decisions {
		f.Add(draw(f, c.record).Encode())
	}
	good := string(draw(f, "handoff 7 | a a1 | b b1 | abb -> bbb | 1=b | 0@5").Encode())
	for _, c := range garbage {
		f.Add([]byte(strings.Replace(good, c.old, c.made, 1)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Decode(data)
		if err != nil {
			if !errors.Is(err, ErrGarbage) && !errors.Is(err, ErrNewer) {
				t.Fatal(err)
			}
			return
		}
		again, err := Decode(r.Encode())
		if err != nil || !bytes.Equal(again.Encode(), r.Encode()) {
			t.Fatalf("%s, read again: %v", r.Encode(), err)
		}
		v := View{Nodes: map[string]Presence{}, Ended: map[string]int64{}}
		for i, n := range r.Nodes {
			if i%2 == 0 {
				v.Ended[n.Session] = MaxGrace
			}
		}
		next, _ := Decide(r, &v)
		if next == nil {
			return
		}
		if err := next.err(); err != nil || next.Epoch != r.Epoch+1 {
			t.Fatalf("%s is followed by %s: %v", r.Encode(), next.Encode(), err)
		}
	})
}

func FuzzDecodePresence(f *testing.F) {
	f.Add([]byte(`{"v":1,"session":"a1","weight":1,"zone":"z","subject":"x.y","leaving":true,"incarnation":100,"released":[{"partition":1,"since":5}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodePresence(data)
		if err != nil {
			return
		}
		again, err := DecodePresence(p.Encode())
		if err != nil || !bytes.Equal(again.Encode(), p.Encode()) {
			t.Fatalf("%s, read again: %v", p.Encode(), err)
		}
		if !json.Valid(p.Encode()) {
			t.Fatal("not JSON")
		}
	})
}
