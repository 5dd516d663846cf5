// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a history is told by the line, and how.
func TestBadHistories(t *testing.T) {
	const begin = `{"type":"invoke","process":0,"ops":[{"op":"append","key":"x","value":1},{"op":"read","key":"y"}]}` + "\n"
	for _, c := range []struct{ name, history, want string }{
		{"empty", "", "no transaction"},
		{"no JSON", "hello\n", "line 1: not JSON"},
		{"an array", "[]\n", "line 1: not an event"},
		{"type", `{"type":"maybe"}`, `type "maybe": want start, invoke, ok, fail or info`},
		{"op", `{"type":"invoke","ops":[{"op":"write","key":"x"}]}`, `ops[0]: op "write"`},
		{"no key", `{"type":"invoke","ops":[{"op":"read"}]}`, "ops[0]: it has no key"},
		{"no value", `{"type":"invoke","ops":[{"op":"append","key":"x"}]}`, "ops[0]: append without a value"},
		{"append with values", `{"type":"invoke","ops":[{"op":"append","key":"x","value":1,"values":[]}]}`, "append with values"},
		{"a bank's", `{"type":"invoke","ops":[{"op":"add","key":"x","value":1}]}`, "op add in a history of the workload append"},
		{"busy", begin + begin, "line 2: process 0 begins a transaction before the one before has ended"},
		{"twice", begin + `{"type":"info","process":0}` + "\n" + begin, "line 3: ops[0]: 1 is appended to \"x\" a second time"},
		{"nothing begun", `{"type":"ok","process":7}`, "process 7 has begun nothing"},
		{"other operations", begin + `{"type":"ok","process":0,"ops":[{"op":"read","key":"y"}]}`, "line 2: 1 operations; it began with 2"},
		{"other key", begin + `{"type":"ok","process":0,"ops":[{"op":"append","key":"x","value":1},{"op":"read","key":"z"}]}`, "ops[1]: read of \"z\""},
		{"other value", begin + `{"type":"ok","process":0,"ops":[{"op":"append","key":"x","value":2},{"op":"read","key":"y"}]}`, "ops[0]: the value is not"},
		{"other tx", `{"type":"invoke","tx":"a"}` + "\n" + `{"type":"ok","tx":"b"}`, `line 2: tx "b"`},
		{"late start", begin + `{"type":"start"}`, "line 2: start has to be the first event"},
		{"workload", `{"type":"start","workload":"queue"}`, `workload "queue"`},
		{"no accounts", `{"type":"start","workload":"bank"}`, "a bank has at least 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(strings.NewReader(c.history))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}

// What an encoder writes, Decode reads.
func TestEncode(t *testing.T) {
	value := int64(-3)
	var out bytes.Buffer
	encoder := NewEncoder(&out)
	for _, e := range []Event{
		{Type: Start, Workload: "append"},
		{Type: Invoke, Process: 2, Tx: "tx", Time: 7, Operations: []Operation{{Op: Append, Key: "x", Value: &value}, {Op: Read, Key: "y"}}},
		{Type: OK, Process: 2, Tx: "tx", Time: 9, Operations: []Operation{{Op: Append, Key: "x", Value: &value}, {Op: Read, Key: "y", Values: []int64{}}}},
	} {
		if err := encoder.Encode(&e); err != nil {
			t.Fatal(err)
		}
	}
	h, err := Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.describe(0); got != "append -3 to x, read y = []" {
		t.Errorf("got %q", got)
	}
	if r := Check(h, Options{}); r.Committed != 1 || r.UnknownReads != 0 || r.Operations != 2 {
		t.Errorf("%+v", r)
	}
}

// Whatever is read is refused, or checked without a panic; and what is checked can be told and drawn.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/planted/*.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := Decode(bytes.NewReader(data))
		if err != nil {
			return
		}
		r := Check(h, Options{Work: 100_000})
		if r.OK() != (len(r.Anomalies) == 0) || r.OK() != r.Levels[0].Holds {
			t.Errorf("%v, %d anomalies, %+v", r.Counts, len(r.Anomalies), r.Levels)
		}
		var out bytes.Buffer
		for i := range r.Anomalies {
			a := &r.Anomalies[i]
			for _, write := range []func() error{
				func() error { return a.WriteText(&out) }, func() error { return a.WriteSVG(&out) }, func() error { return a.WriteDOT(&out) },
			} {
				if err := write(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// Each cycle that is reported is one: every edge leads on, and the last one back.
func TestCyclesAreCycles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	cycles := 0
	for seed := range uint64(300) {
		level := []isolation{snapshot, committedRC, perPart, dirty, noUpdates}[r.IntN(5)]
		for _, a := range Check(simulate(t, seed, level, 40), Options{}).Anomalies {
			for i, e := range a.Edges {
				if e.From != i || e.To != (i+1)%len(a.Edges) || e.Why == "" {
					t.Fatalf("level %d, seed %d: edge %d of %s is %+v", level, seed, i, a.Class, e)
				}
			}
			if len(a.Edges) > 0 {
				cycles++
				checkShape(t, &a)
			}
		}
	}
	if cycles < 1000 {
		t.Errorf("%d cycles: there was nothing to check", cycles)
	}
}

// checkShape: a cycle has the edges that its class says.
func checkShape(t *testing.T, a *Anomaly) {
	t.Helper()
	count := make(map[string]int)
	adjacent := false
	for i, e := range a.Edges {
		count[e.Kind]++
		adjacent = adjacent || e.Kind == "rw" && a.Edges[(i+1)%len(a.Edges)].Kind == "rw"
	}
	base := Class(strings.TrimSuffix(strings.TrimSuffix(string(a.Class), Process), Realtime))
	ok := map[Class]bool{
		G0:           count["wr"]+count["rw"] == 0,
		G1c:          count["wr"] > 0 && count["rw"] == 0,
		GSingle:      count["rw"] == 1,
		GNonadjacent: count["rw"] > 1 && !adjacent,
		G2Item:       adjacent,
	}[base]
	timed := count["process"]+count["realtime"] > 0
	if !ok || timed != (base != a.Class) {
		t.Errorf("%s with %v", a.Class, count)
	}
}
