// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestSubjects(t *testing.T) {
	s := Subjects{}
	for got, want := range map[string]string{
		s.Stream(3):                                 "assent-log-3",
		Subjects{Prefix: "a.b"}.Stream(0):           "a-b-log-0",
		s.ParticipantsBucket():                      "assent-participants",
		Subjects{Prefix: "a.b"}.CheckpointsBucket(): "a-b-checkpoints",
		s.Log(0):                          "assent.log.0.>",
		s.Prepare(0, "bank"):              "assent.log.0.prepare.bank",
		s.Vote(10, "bank"):                "assent.log.10.vote.bank",
		s.Abort(0):                        "assent.log.0.abort",
		s.Finished(0):                     "assent.log.0.finished",
		s.Commit(1, "bank"):               "assent.commit.1.bank",
		s.Rollback(1, "bank"):             "assent.rollback.1.bank",
		s.Commits("bank"):                 "assent.commit.*.bank",
		s.Rollbacks("bank"):               "assent.rollback.*.bank",
		s.Done(2, "*"):                    "assent.done.2.*",
		s.Submit(4):                       "assent.submit.4",
		s.Wait(4):                         "assent.wait.4",
		s.API("tx.show"):                  "assent.api.tx.show",
		Subjects{Prefix: "a.b"}.Submit(0): "a.b.submit.0",
		LastToken(s.Done(2, "bank")):      "bank",
		LastToken("alone"):                "alone",
		LastToken("ends."):                "",
	} {
		if got != want {
			t.Errorf("%q; expected %q", got, want)
		}
	}
}

func TestParseLogReadsWhatSubjectsWrite(t *testing.T) {
	for _, prefix := range []string{"", "assent", "a.b-c.D_9"} {
		s := Subjects{Prefix: prefix}
		for _, shard := range []int{0, 7, 10, 4096} {
			for subject, want := range map[string]Kind{
				s.Prepare(shard, "bank-a"): KindPrepare, s.Vote(shard, "bank-a"): KindVote,
				s.Abort(shard): KindAbort, s.Finished(shard): KindFinished,
				s.Commit(shard, "bank-a"): KindUnknown, s.Log(shard): KindUnknown, s.Prepare(shard+1, "bank-a"): KindUnknown,
			} {
				wantName := ""
				if want == KindPrepare || want == KindVote {
					wantName = "bank-a"
				}
				if kind, name := s.ParseLog(shard, subject); kind != want || name != wantName {
					t.Errorf("%s is %v of %q", subject, kind, name)
				}
			}
		}
	}
}

func TestShardOf(t *testing.T) {
	s := Subjects{Prefix: "a.b"}
	for _, shard := range []int{0, 9, 12345} {
		for _, subject := range []string{s.Commit(shard, "x"), s.Rollback(shard, "x"), s.Done(shard, "x")} {
			if got, ok := s.ShardOf(subject); !ok || got != shard {
				t.Errorf("%s is of shard %d, %v", subject, got, ok)
			}
		}
	}
	for _, subject := range []string{
		"", "a.b", "a.b.", "a.bx.commit.1.x", "a.b.commit", "a.b.commit.1", "a.b.commit.1.", "a.b.commit.1.x.y", "a.b..1.x",
		"a.b.commit.-1.x", "a.b.commit.+1.x", "a.b.commit.01.x", "a.b.commit.*.x", "a.b.commit.99999999999999999999.x",
		"a.b.commit.1.*", "a.b.log.1.vote.x", "assent.commit.1.x",
	} {
		if got, ok := s.ShardOf(subject); ok || got != 0 {
			t.Errorf("%s is of shard %d, %v", subject, got, ok)
		}
	}
}

func TestValidNameAndPrefix(t *testing.T) {
	long := strings.Repeat("n", MaxName)
	for name, want := range map[string]bool{
		"a": true, "Bank-9_x": true, "-": true, long: true, long + "n": false, "": false, "a.b": false, "a b": false,
		"*": false, ">": false, "é": false, "a\x00": false, "$JS": false,
	} {
		if ValidName(name) != want || ValidPrefix(name) != (want || name == "a.b") {
			t.Errorf("%q: name %v, prefix %v", name, ValidName(name), ValidPrefix(name))
		}
	}
	for _, prefix := range []string{".", "a.", ".a", "a..b", "a.*"} {
		if ValidPrefix(prefix) {
			t.Errorf("%q is a prefix", prefix)
		}
	}
}

func TestLines(t *testing.T) {
	for body, want := range map[string][]string{
		"": nil, "\n": nil, "a": {"a"}, "a\n": {"a"}, "a\nb": {"a", "b"}, "\n\na\r\n\n \n": {"a\r", " "},
	} {
		var got []string
		for line := range Lines([]byte(body)) {
			got = append(got, string(line))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q is %q", body, got)
		}
	}
	for line := range Lines([]byte("a\nb\n")) {
		if string(line) != "a" {
			t.Errorf("a stopped reader is given %q", line)
		}
		break
	}
}

func TestWords(t *testing.T) {
	for got, want := range map[string]string{
		VoteYes.String(): "yes", VoteNo.String(): "no", VoteReadOnly.String(): "read-only", Vote(0).String(): "none",
		Committed.String(): "committed", Aborted.String(): "aborted", Undecided.String(): "undecided",
		KindPrepare.String(): "prepare", KindVote.String(): "vote", KindAbort.String(): "abort",
		KindFinished.String(): "finished", KindUnknown.String(): "unknown",
	} {
		if got != want {
			t.Errorf("%q; expected %q", got, want)
		}
	}
	if outcome, ok := ParseOutcome("undecided"); ok || outcome != Undecided {
		t.Error("undecided is no outcome to tell")
	}
}

// TestNamesAreBounded: a decoder that meets names without end does not keep them all.
func TestNamesAreBounded(t *testing.T) {
	var d Decoder
	p := Prepare{Tx: sampleID}
	for i := range 3 * maxNames {
		p.Participants = []string{"n" + strconv.Itoa(i)}
		p.Operations = []Operation{{}}
		if err := d.Prepare(AppendPrepare(nil, &p), &p); err != nil {
			t.Fatal(err)
		}
		if len(d.names) > maxNames {
			t.Fatalf("%d names are kept", len(d.names))
		}
	}
}
