// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assent-tx/assent/messages"
)

// TestBranchesTranscripts runs testdata/branches/*.txt, which are written as those of TestFoldTranscripts are: the life of branches
// in one instance, from what comes in (a line) to what it does about it (the indented lines below).
func TestBranchesTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/branches/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runBranchesTranscript(t, file) })
	}
}

func runBranchesTranscript(t *testing.T, file string) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	in := &instance{branches: NewBranches(BranchesConfig{}), names: make(map[messages.ID]string)}
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		got.WriteString(line)
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") {
			for _, out := range in.run(parseCommand(text)) {
				got.WriteString("  " + out + "\n")
			}
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(want) {
		t.Errorf("%s\n--- got\n%s--- want\n%s", firstDifference(got.String(), string(want)), got.String(), want)
	}
}

// instance is a transcript's world: the branches of one instance, and its clock.
type instance struct {
	branches *Branches
	now      int64
	names    map[messages.ID]string
}

func (in *instance) tx(name string) messages.ID {
	for id, known := range in.names {
		if known == name {
			return id
		}
	}
	id := messages.ID{6: 0x70, 8: 0x80, 15: byte(len(in.names) + 1)}
	in.names[id] = name
	return id
}

// run does one line; the first word is the event, the second the transaction.
func (in *instance) run(c command) (out []string) {
	defer func() {
		if failure := recover(); failure != nil {
			out = append(out, fmt.Sprint("panic: ", failure))
		}
	}()
	verb, reason := c.word(0), strings.ReplaceAll(c.fields["reason"], "_", " ")
	var tx messages.ID
	if c.word(1) != "" {
		tx = in.tx(c.word(1))
	}
	b := in.branches
	switch verb {
	case "time":
		in.now = c.number("now")
	case "configure":
		*b = *NewBranches(BranchesConfig{Retry: c.number("retry"), MaxRetry: c.number("max-retry"), Doubt: c.number("doubt"),
			MaxDoubt: c.number("max-doubt"), Working: c.number("working"), Leaves: c.number("leaves") == 1})
	case "prepare":
		b.Prepare(tx, 0, c.number("expires"), in.now, c.fields["token"])
	case "prepared":
		vote := map[string]messages.Vote{"yes": messages.VoteYes, "no": messages.VoteNo, "read-only": messages.VoteReadOnly}[c.word(2)]
		b.Prepared(tx, vote, reason, in.now)
	case "wrong-owner":
		b.WrongOwner(tx, uint64(c.number("epoch")), reason)
	case "guard":
		b.Guard(tx)
	case "wait":
		b.Wait(tx, reason)
	case "granted":
		if !b.Granted(tx, in.now) {
			out = append(out, "not known")
		}
	case "conflict":
		b.Conflict(tx, reason)
	case "wound":
		b.Wound(tx, reason)
	case "voted":
		b.Voted(tx, uint64(c.number("at")), in.now)
	case "recall":
		b.Recall(tx, 0)
	case "heard":
		b.Heard(tx, uint64(c.number("vote")))
	case "commit", "rollback":
		outcome := map[string]messages.Outcome{"commit": messages.Committed, "rollback": messages.Aborted}[verb]
		b.Outcome(outcome, &messages.Effect{Tx: tx, Vote: uint64(c.number("vote"))}, 0, c.fields["reply"], in.now)
	case "applied":
		b.Applied(tx, c.word(2) != "failed", c.fields["heuristic"], in.now)
	case "tick":
		in.now = max(in.now, c.number("now"))
		b.Tick(in.now)
	case "working":
		b.Working(in.now)
	case "count":
		inHand, inDoubt := b.Len()
		out = append(out, fmt.Sprintf("%d in hand, %d in doubt, %d under way", inHand, inDoubt, b.Calling()))
	default:
		panic("unknown event " + verb)
	}
	for _, s := range b.Take() {
		out = append(out, in.describe(&s))
	}
	return out
}

func (in *instance) describe(s *Step) string {
	name := in.names[s.Tx]
	switch s.Kind {
	case AskPrepare:
		return fmt.Sprintf("PREPARE %s, delivered as %v, expires %d", name, s.Token, s.Expires)
	case AskFinish:
		return fmt.Sprintf("%s %s", map[messages.Outcome]string{messages.Committed: "COMMIT", messages.Aborted: "ROLLBACK"}[s.Outcome], name)
	case CastVote:
		text := fmt.Sprintf("vote %v on %s", s.Vote, name)
		if s.Held {
			text += ", held"
		}
		if s.Conflict {
			text += ", conflict"
		}
		if s.WrongOwner != 0 {
			text += fmt.Sprintf(", wrong owner in epoch %d", s.WrongOwner)
		}
		if s.Reason != "" {
			text += ": " + s.Reason
		}
		return text
	case AckPrepare:
		return fmt.Sprintf("acknowledge %v", s.Token)
	case SendDone:
		text := fmt.Sprintf("done %s vote=%d to %s", name, s.Done.Vote, s.Reply)
		if s.Done.Working {
			text += ", still working"
		}
		if s.Done.Heuristic != "" {
			text += ", heuristic: " + s.Done.Heuristic
		}
		return text
	case LeaveBranch:
		return "leave " + name
	default:
		return fmt.Sprintf("step %d", s.Kind)
	}
}
