// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/json"
	"testing"
)

// samples are typical records, for the pins on allocations and the benchmarks.
var samples = struct {
	prepare, keyless Prepare
	routed, isolated Prepare
	moved, conflict  VoteRecord
	vote             VoteRecord
	abort            Abort
	finished         Finished
	effect           Effect
	done             Done
	submission       Submission
	answer           Answer
	wait             Wait
}{
	prepare: Prepare{Tx: sampleID, Participants: []string{"bank-a", "bank-b"}, Expires: 1763856000000,
		Operations: []Operation{{Keys: []string{"accounts/1"}, Payload: samplePayload}}},
	keyless: Prepare{Tx: sampleID, Participants: []string{"bank-a", "bank-b"}, Expires: 1763856000000,
		Operations: []Operation{{Payload: samplePayload}}},
	routed: Prepare{Tx: sampleID, Participants: []string{"bank-a", "bank-b"}, Expires: 1763856000000, Routing: 4711,
		Operations: []Operation{{Route: &Route{"accounts", "accounts/1", 1763856000000000, 12}, Payload: samplePayload}}},
	isolated: Prepare{Tx: sampleID, Participants: []string{"bank-a", "bank-b"}, Expires: 1763856000000, Since: 1763856000000000,
		Locks:      []Lock{{"stock/7", "187b2c4f9a3d1e00-000000000000002a"}},
		Operations: []Operation{{Keys: []string{"accounts/1"}, Shared: []string{"rates"}, Payload: samplePayload}}},
	moved:    VoteRecord{Tx: sampleID, Vote: VoteNo, Held: true, WrongOwner: 13},
	conflict: VoteRecord{Tx: sampleID, Vote: VoteNo, Held: true, Conflict: true},
	vote:     VoteRecord{Tx: sampleID, Vote: VoteYes},
	abort:    Abort{Tx: sampleID},
	finished: Finished{Tx: sampleID, Through: 1234567},
	effect:   Effect{Tx: sampleID, Vote: 1234567, Expires: 1763856000000},
	done:     Done{Tx: sampleID, Vote: 1234567},
	submission: Submission{Tx: sampleID, TimeoutMS: 30000, Operations: []Operation{
		{Participant: "bank-a", Keys: []string{"accounts/1"}, Payload: samplePayload},
		{Participant: "bank-b", Keys: []string{"accounts/2"}, Payload: samplePayload}}},
	answer: Answer{Tx: sampleID, Outcome: Committed},
	wait:   Wait{Tx: sampleID},
}

var (
	sampleID, _   = ParseID("0190163d-8694-739b-aea5-966c26f8ad91")
	samplePayload = json.RawMessage(`{"account":"1","amount":-250,"currency":"EUR","memo":"invoice 2025-117"}`)
)

func TestAllocationsOfEncoding(t *testing.T) {
	b := make([]byte, 0, 4096)
	for name, encode := range map[string]func(){
		"prepare":    func() { AppendPrepare(b, &samples.prepare) },
		"routed":     func() { AppendPrepare(b, &samples.routed) },
		"isolated":   func() { AppendPrepare(b, &samples.isolated) },
		"conflict":   func() { AppendVote(b, &samples.conflict) },
		"moved":      func() { AppendVote(b, &samples.moved) },
		"vote":       func() { AppendVote(b, &samples.vote) },
		"abort":      func() { AppendAbort(b, &samples.abort) },
		"finished":   func() { AppendFinished(b, &samples.finished) },
		"effect":     func() { AppendEffect(b, &samples.effect) },
		"done":       func() { AppendDone(b, &samples.done) },
		"submission": func() { AppendSubmission(b, &samples.submission) },
		"answer":     func() { AppendAnswer(b, &samples.answer) },
		"wait":       func() { AppendWait(b, &samples.wait) },
		"reason": func() {
			AppendVote(b, &VoteRecord{Tx: sampleID, Vote: VoteNo, Reason: "account \"7\" is overdrawn — é"})
		},
	} {
		if n := testing.AllocsPerRun(100, encode); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// decoding gives a function that decodes line again and again as a reader of the log does: one Decoder, one record.
func decoding[R any](t testing.TB, k kind[R], record *R) (line []byte, decode func()) {
	line = k.encode(nil, record)
	var d Decoder
	var into R
	return line, func() {
		if err := k.decode(&d, line, &into); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAllocationsOfDecoding(t *testing.T) {
	pin := func(name string, most float64) func([]byte, func()) {
		return func(_ []byte, decode func()) {
			if n := testing.AllocsPerRun(1000, decode); n > most {
				t.Errorf("%s: %v allocations; at most %v", name, n, most)
			}
		}
	}
	pin("prepare", 1)(decoding(t, prepares, &samples.prepare)) // the key
	pin("prepare without keys", 0)(decoding(t, prepares, &samples.keyless))
	pin("prepare with a route", 2)(decoding(t, prepares, &samples.routed)) // the route and its key
	pin("prepare with locks", 5)(decoding(t, prepares, &samples.isolated)) // two keys; the list, the key and the token
	pin("vote of a conflict", 0)(decoding(t, votes, &samples.conflict))
	pin("vote of a move", 0)(decoding(t, votes, &samples.moved))
	pin("vote", 0)(decoding(t, votes, &samples.vote))
	pin("vote with a reason", 1)(decoding(t, votes, &VoteRecord{Tx: sampleID, Vote: VoteNo, Reason: "overdrawn by 5.00"}))
	pin("abort", 0)(decoding(t, aborts, &samples.abort))
	pin("finished", 0)(decoding(t, finisheds, &samples.finished))
	pin("effect", 0)(decoding(t, effects, &samples.effect))
	pin("done", 0)(decoding(t, dones, &samples.done))
	pin("submission", 2)(decoding(t, submissions, &samples.submission)) // the keys
	pin("answer", 0)(decoding(t, answers, &samples.answer))
	pin("wait", 0)(decoding(t, waits, &samples.wait))
}

func TestAllocationsOfReadingTheLog(t *testing.T) {
	body := bytes.Repeat(append(AppendVote(nil, &samples.vote), '\n'), 100)
	subject := Subjects{}.Vote(12, "bank-a")
	text := sampleID.String()
	count := 0
	if n := testing.AllocsPerRun(100, func() {
		for range Lines(body) {
			count++
		}
	}); n != 0 || count != 101*100 {
		t.Errorf("Lines: %v allocations, %d lines", n, count)
	}
	if n := testing.AllocsPerRun(100, func() { Subjects{}.ParseLog(12, subject) }); n != 0 {
		t.Errorf("ParseLog: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseID(text) }); n != 0 {
		t.Errorf("ParseID: %v allocations", n)
	}
	scratch := make([]byte, 0, 256)
	routed := Submission{Operations: []Operation{{Participant: "bank-a", Route: &Route{}}, {Participant: "bank-b"}}}
	if n := testing.AllocsPerRun(100, func() { _, scratch = routed.Routing(scratch) }); n != 0 {
		t.Errorf("Submission.Routing: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { sampleID.Next() }); n != 0 {
		t.Errorf("ID.Next: %v allocations", n)
	}
}
