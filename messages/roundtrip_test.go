// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var (
	drawID = rapid.Custom(func(t *rapid.T) (id ID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "octets"))
		id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
		return id
	})
	drawName     = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	drawSequence = rapid.Uint64Range(0, safe)
	drawMillis   = rapid.Int64Range(0, safe)
	drawPositive = rapid.Uint64Range(1, safe)
	drawRoute    = rapid.Custom(func(t *rapid.T) *Route {
		return &Route{drawName.Draw(t, "group"), rapid.StringN(1, 300, MaxRouteKey).Draw(t, "key"),
			drawPositive.Draw(t, "incarnation"), drawPositive.Draw(t, "epoch")}
	})
	drawLocks = rapid.Custom(func(t *rapid.T) []Lock {
		return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Lock {
			return Lock{drawKey.Draw(t, "key"), rapid.StringMatching(`[A-Za-z0-9_.:-]{1,64}`).Draw(t, "token")}
		}), 0, 3, func(l Lock) string { return strings.ToValidUTF8(l.Key, "?") }).Draw(t, "locks")
	})
	drawKey     = rapid.StringN(1, 20, 80)
	drawPayload = rapid.Custom(func(t *rapid.T) json.RawMessage {
		b, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Float64())).Draw(t, "payload"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
)

func drawText(t *rapid.T, label string, limit int) string {
	return cut(rapid.String().Draw(t, label), limit)
}

func drawOperations(t *rapid.T, participants []string) []Operation {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (op Operation) {
		if participants != nil {
			op.Participant = rapid.SampledFrom(participants).Draw(t, "participant")
		}
		if rapid.Bool().Draw(t, "has a payload") {
			op.Payload = drawPayload.Draw(t, "payload")
		}
		if rapid.Bool().Draw(t, "is routed") {
			op.Route = drawRoute.Draw(t, "route")
		}
		keys := rapid.SliceOfNDistinct(drawKey, 0, 140, rapid.ID[string]).Draw(t, "keys")
		exclusive := rapid.IntRange(0, len(keys)).Draw(t, "exclusive")
		op.Keys, op.Shared = keys[:exclusive], keys[exclusive:]
		return op
	}), 1, 5).Draw(t, "operations")
}

func drawNames(t *rapid.T) []string {
	return rapid.SliceOfNDistinct(drawName, 1, MaxParticipants, rapid.ID[string]).Draw(t, "names")
}

// roundTrip decodes what is encoded, twice into the same record.
func roundTrip[R any](t *rapid.T, k kind[R], record *R) {
	line := k.encode(nil, record)
	if broken, err := k.check(line); broken != "" || err != nil {
		t.Fatalf("%s: %s %v", line, broken, err)
	}
	var d Decoder
	var back R
	if err := k.decode(&d, line, &back); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if got, want := k.view(&back).text(), k.view(record).text(); got != want {
		t.Fatalf("encoded %s\ndecoded %s", want, got)
	}
}

func TestRoundTrip(t *testing.T) {
	for name, draw := range map[string]func(*rapid.T){
		"prepare": func(t *rapid.T) {
			roundTrip(t, prepares, &Prepare{Tx: drawID.Draw(t, "tx"), Participants: drawNames(t), Routing: drawSequence.Draw(t, "routing"),
				Since: drawMillis.Draw(t, "since"), Locks: drawLocks.Draw(t, "locks"),
				Expires: drawMillis.Draw(t, "expires"), Operations: drawOperations(t, nil), Trace: drawText(t, "trace", MaxTrace)})
		},
		"vote": func(t *rapid.T) {
			v := &VoteRecord{Tx: drawID.Draw(t, "tx"), Held: rapid.Bool().Draw(t, "held"),
				Vote:   rapid.SampledFrom([]Vote{VoteYes, VoteNo, VoteReadOnly}).Draw(t, "vote"),
				Reason: drawText(t, "reason", MaxReason)}
			if v.Vote == VoteNo && rapid.Bool().Draw(t, "has moved") {
				v.WrongOwner = drawPositive.Draw(t, "wrong owner")
			}
			v.Conflict = v.Vote == VoteNo && rapid.Bool().Draw(t, "conflict")
			roundTrip(t, votes, v)
		},
		"abort": func(t *rapid.T) {
			roundTrip(t, aborts, &Abort{Tx: drawID.Draw(t, "tx"), Reason: drawText(t, "reason", MaxReason)})
		},
		"finished": func(t *rapid.T) {
			f := &Finished{Tx: drawID.Draw(t, "tx"), Through: drawSequence.Draw(t, "through")}
			for _, name := range drawNames(t) {
				f.Heuristics = append(f.Heuristics, HeuristicReport{name, drawText(t, "reason", MaxReason)})
			}
			roundTrip(t, finisheds, f)
		},
		"effect": func(t *rapid.T) {
			roundTrip(t, effects, &Effect{drawID.Draw(t, "tx"), drawSequence.Draw(t, "vote"), drawMillis.Draw(t, "expires")})
		},
		"done": func(t *rapid.T) {
			roundTrip(t, dones, &Done{drawID.Draw(t, "tx"), drawSequence.Draw(t, "vote"),
				drawText(t, "heuristic", MaxReason), rapid.Bool().Draw(t, "working")})
		},
		"submission": func(t *rapid.T) {
			roundTrip(t, submissions, &Submission{Tx: drawID.Draw(t, "tx"), Since: drawMillis.Draw(t, "since"), Locks: drawLocks.Draw(t, "locks"), Operations: drawOperations(t, drawNames(t)),
				TimeoutMS: rapid.SampledFrom([]int64{0, 1000, 86400000}).Draw(t, "timeout"), Trace: drawText(t, "trace", MaxTrace)})
		},
		"answer": func(t *rapid.T) { roundTrip(t, answers, drawAnswer(t)) },
		"wait": func(t *rapid.T) {
			roundTrip(t, waits, &Wait{Tx: drawID.Draw(t, "tx"), Now: rapid.Bool().Draw(t, "now")})
		},
	} {
		t.Run(name, func(t *testing.T) { rapid.Check(t, draw) })
	}
}

func drawAnswer(t *rapid.T) *Answer {
	a := &Answer{Tx: drawID.Draw(t, "tx"), Participant: drawName.Draw(t, "participant"), Reason: drawText(t, "reason", MaxReason)}
	if rapid.Bool().Draw(t, "decided") {
		a.Outcome = rapid.SampledFrom([]Outcome{Committed, Aborted}).Draw(t, "outcome")
		if a.Outcome == Aborted && rapid.Bool().Draw(t, "has moved") {
			a.WrongOwner = drawPositive.Draw(t, "wrong owner")
		}
		a.Conflict = a.Outcome == Aborted && rapid.Bool().Draw(t, "conflict")
		return a
	}
	a.Error, a.Field, a.Message = CodeInvalid, drawText(t, "field", MaxReason), drawText(t, "message", maxMessageText)
	if rapid.Bool().Draw(t, "without an id") {
		a.Tx = ID{}
	}
	return a
}

// TestReasonsAreCut: whatever a reason is made of, the record that carries it decodes.
func TestReasonsAreCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reason := strings.Repeat(string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")), rapid.IntRange(1, 300).Draw(t, "times"))
		kept := CutReason(reason)
		if len(kept) > MaxReason || !utf8.ValidString(kept) || (reason != "" && kept == "") {
			t.Fatalf("%q is cut to %d bytes, %q", reason, len(kept), kept)
		}
		if utf8.ValidString(reason) && (!strings.HasPrefix(reason, kept) || (len(kept) < MaxReason-3 && kept != reason)) {
			t.Fatalf("%q is cut to %q", reason, kept)
		}
		id := drawID.Draw(t, "tx")
		roundTrip(t, votes, &VoteRecord{Tx: id, Vote: VoteNo, Reason: kept})
		for name, line := range map[string][]byte{
			"vote":     AppendVote(nil, &VoteRecord{Tx: id, Vote: VoteNo, Reason: reason}),
			"abort":    AppendAbort(nil, &Abort{Tx: id, Reason: reason}),
			"done":     AppendDone(nil, &Done{Tx: id, Heuristic: reason}),
			"finished": AppendFinished(nil, &Finished{Tx: id, Heuristics: []HeuristicReport{{"a", reason}}}),
			"answer":   AppendAnswer(nil, &Answer{Tx: id, Outcome: Aborted, Reason: reason, Field: reason, Message: reason}),
		} {
			if broken, err := kinds[name].check(line); broken != "" || err != nil {
				t.Fatalf("%s: %s %v", name, broken, err)
			}
		}
	})
}

// TestFinishedFits: the record that ends a transaction is never too large to be read.
func TestFinishedFits(t *testing.T) {
	f := Finished{Tx: NewID(), Through: 1}
	for i := range MaxParticipants {
		f.Heuristics = append(f.Heuristics, HeuristicReport{strings.Repeat("p", 60) + string(rune('0'+i/10)) + string(rune('0'+i%10)),
			strings.Repeat("\x01", MaxReason)})
	}
	line := AppendFinished([]byte("before"), &f)[len("before"):]
	var d Decoder
	var back Finished
	if err := d.Finished(line, &back); err != nil || len(back.Heuristics) != MaxParticipants || back.Heuristics[0].Reason != "" {
		t.Errorf("%d heuristics, %v", len(back.Heuristics), err)
	}
}

// TestInvalidUTF8IsReplaced: keys are the caller's; the encoder never writes what no decoder accepts.
func TestInvalidUTF8IsReplaced(t *testing.T) {
	line := AppendSubmission(nil, &Submission{Tx: NewID(), Operations: []Operation{{Participant: "a", Keys: []string{"x\xff\xfe\u00e9\xc3"}}}})
	var d Decoder
	var back Submission
	if err := d.Submission(line, &back); err != nil || back.Operations[0].Keys[0] != "x\ufffd\ufffdé\ufffd" {
		t.Errorf("%q, %v", back.Operations[0].Keys, err)
	}
}

// TestKeysAreKept: the keys of one record survive the decoding of the next into the same struct.
func TestKeysAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Decoder
		var p Prepare
		var kept, want [][]string
		for range 20 {
			keys := rapid.SliceOfN(rapid.StringN(1, 5, 20), 0, 80).Draw(t, "keys")
			line := AppendPrepare(nil, &Prepare{Tx: NewID(), Participants: []string{"a"}, Operations: []Operation{{Keys: keys}, {Shared: keys}}})
			if rapid.Bool().Draw(t, "broken") {
				if err := d.Prepare(line[:len(line)-3], &p); err == nil {
					t.Fatal("half a record is accepted")
				}
			}
			if err := d.Prepare(line, &p); err != nil {
				t.Fatal(err)
			}
			for _, op := range p.Operations {
				kept, want = append(kept, append(op.Keys, op.Shared...)), append(want, keys)
				if cap(op.Keys) != len(op.Keys) || cap(op.Shared) != len(op.Shared) {
					t.Fatal("appending to the keys would write into another record's")
				}
			}
		}
		if !slices.EqualFunc(kept, want, slices.Equal) {
			t.Fatalf("kept %q\nexpected %q", kept, want)
		}
	})
}

// TestRoutesAreKept: the route of one record survives the decoding of the next into the same struct, and an operation
// without one has none.
func TestRoutesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d Decoder
		var p Prepare
		routes := rapid.SliceOfN(drawRoute, 1, 20).Draw(t, "routes")
		var kept []*Route
		for _, route := range routes {
			line := AppendPrepare(nil, &Prepare{Tx: NewID(), Participants: []string{"a"}, Operations: []Operation{{Route: route}, {}}})
			if err := d.Prepare(line, &p); err != nil {
				t.Fatal(err)
			}
			if p.Operations[1].Route != nil {
				t.Fatalf("an operation without a route has %v", p.Operations[1].Route)
			}
			kept = append(kept, p.Operations[0].Route)
		}
		for i := range routes {
			if *kept[i] != *routes[i] {
				t.Fatalf("kept %v; expected %v", *kept[i], *routes[i])
			}
		}
	})
}

// TestLocksAreKept: the locks of one record survive the decoding of the next into the same struct, and a record without locks
// has none.
func TestLocksAreKept(t *testing.T) {
	var d Decoder
	var p Prepare
	var kept [][]Lock
	for _, locks := range [][]Lock{{{"a", "1"}, {"b", "2"}}, {{"c", "3"}}, nil} {
		line := AppendPrepare(nil, &Prepare{Tx: sampleID, Participants: []string{"a"}, Locks: locks, Operations: []Operation{{}}})
		if err := d.Prepare(line, &p); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, p.Locks)
	}
	if got := fmt.Sprint(kept); got != "[[{a 1} {b 2}] [{c 3}] []]" {
		t.Error(got)
	}
}

// TestSharedTwice: a key in both modes is found among few keys and among many.
func TestSharedTwice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SliceOfN(rapid.IntRange(0, 3000), 0, 100)
		var keys, shared []string
		for _, n := range some.Draw(t, "keys") {
			keys = append(keys, strconv.Itoa(n))
		}
		for _, n := range some.Draw(t, "shared") {
			shared = append(shared, strconv.Itoa(n))
		}
		want := slices.IndexFunc(shared, func(key string) bool { return slices.Contains(keys, key) })
		if got := SharedTwice(keys, shared); got != want {
			t.Fatalf("%d; expected %d", got, want)
		}
	})
}

// TestQualifiersAreWrittenOnlyWhereTheyMayStand: what a caller sets by mistake makes no record malformed.
func TestQualifiersAreWrittenOnlyWhereTheyMayStand(t *testing.T) {
	var d Decoder
	for _, vote := range []Vote{VoteYes, VoteNo, VoteReadOnly} {
		var back VoteRecord
		err := d.Vote(AppendVote(nil, &VoteRecord{Tx: sampleID, Vote: vote, WrongOwner: 7, Conflict: true}), &back)
		if err != nil || (back.WrongOwner == 7) != (vote == VoteNo) || back.Conflict != (vote == VoteNo) {
			t.Errorf("%v: %+v, %v", vote, back, err)
		}
	}
	for _, a := range []Answer{{Outcome: Committed}, {Outcome: Aborted}, {Error: CodeTryAgain}} {
		a.Tx, a.WrongOwner, a.Conflict = sampleID, 7, true
		var back Answer
		err := d.Answer(AppendAnswer(nil, &a), &back)
		if err != nil || (back.WrongOwner == 7) != (a.Outcome == Aborted) || back.Conflict != (a.Outcome == Aborted) {
			t.Errorf("%+v: %+v, %v", a, back, err)
		}
	}
}
