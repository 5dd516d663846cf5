// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/assent-tx/assent/messages"
)

var rewrite = flag.Bool("rewrite", false, "write what the transcripts give into testdata")

// TestFoldTranscripts runs testdata/*.txt. A line that is neither blank nor a comment is a command; the indented lines
// below it are what it gave. With -rewrite they are written anew, to be reviewed as a diff.
func TestFoldTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runTranscript(t, file) })
	}
}

func runTranscript(t *testing.T, file string) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	s := newScenario()
	for line := range strings.Lines(string(want)) {
		switch {
		case strings.HasPrefix(line, " "):
			continue // output
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
			got.WriteString(line)
			continue
		}
		got.WriteString(line)
		for _, out := range s.run(strings.TrimSpace(line)) {
			got.WriteString("  " + out + "\n")
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

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got %q, want %q", i+1, g[i], w[i])
		}
	}
	return "one is longer"
}

// scenario is a transcript's world: a log, the reader of it, and what it delivers.
type scenario struct {
	cfg         FoldConfig
	now         int64 // the server's clock
	log         testLog
	fold        *Fold
	delivery    *Delivery
	checkpoints map[string]Checkpoint
	ids         map[string]messages.ID
	names       map[messages.ID]string
	out         []string
}

func newScenario() *scenario {
	s := &scenario{
		cfg: FoldConfig{Window: 1000, Remember: 100}, checkpoints: make(map[string]Checkpoint),
		ids: make(map[string]messages.ID), names: make(map[messages.ID]string),
	}
	s.reset()
	return s
}

func (s *scenario) reset() {
	s.fold = NewFold(s.cfg, Checkpoint{Sequence: uint64(len(s.log)) + 1})
	s.delivery = NewDelivery(DeliveryConfig{})
}

// command is a line of a transcript: words, and fields of the form name=value.
type command struct {
	words  []string
	fields map[string]string
}

func parseCommand(text string) command {
	c := command{fields: make(map[string]string)}
	for _, word := range strings.Fields(text) {
		if name, value, ok := strings.Cut(word, "="); ok {
			c.fields[name] = value
		} else {
			c.words = append(c.words, word)
		}
	}
	return c
}

func (c command) word(i int) string {
	if i < len(c.words) {
		return c.words[i]
	}
	return ""
}

func (c command) number(field string) int64 {
	n, err := strconv.ParseInt(c.fields[field], 10, 64)
	if err != nil && c.fields[field] != "" {
		panic(err)
	}
	return n
}

func (s *scenario) say(format string, args ...any) {
	s.out = append(s.out, fmt.Sprintf(format, args...))
}

// run does a line. Several records of one message are parted by " + ".
func (s *scenario) run(line string) []string {
	s.out = nil
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "prepare", "vote", "abort", "finished":
		s.write(verb, rest)
	case "raw": // raw KIND PARTICIPANT|- TEXT
		words := strings.SplitN(rest, " ", 3)
		s.message(kindNamed(words[0]), strings.TrimPrefix(words[1], "-"), []byte(words[2]))
	default:
		c := parseCommand(line)
		do, ok := scenarioCommands[verb]
		if !ok {
			panic("no such command: " + line)
		}
		do(s, c)
	}
	return s.out
}

func kindNamed(name string) messages.Kind {
	for kind := messages.KindUnknown; kind <= messages.KindFinished; kind++ {
		if kind.String() == name {
			return kind
		}
	}
	return messages.KindUnknown
}

var scenarioCommands = map[string]func(*scenario, command){
	"config": func(s *scenario, c command) {
		s.cfg = FoldConfig{Window: c.number("window"), Remember: int(c.number("remember"))}
		s.reset()
	},
	"time":       func(s *scenario, c command) { s.now, _ = strconv.ParseInt(c.word(1), 10, 64) },
	"message":    func(s *scenario, _ command) { s.message(messages.KindAbort, "", nil) },
	"show":       func(s *scenario, c command) { s.show(c.word(1)) },
	"checkpoint": func(s *scenario, c command) { s.checkpoint(c.word(1)) },
	"replay":     func(s *scenario, c command) { s.replay(c.word(1)) },
	"miss": func(s *scenario, _ command) { // a message that the reader does not get
		s.log = append(s.log, testMessage{sequence: uint64(len(s.log)) + 1, at: s.now})
	},
	"again": func(s *scenario, _ command) { // the message read last is delivered once more
		m := s.log[len(s.log)-1]
		s.result(s.fold.Message(m.sequence, m.at, m.kind, m.participant, m.data))
	},
	"overdue": func(s *scenario, c command) {
		for _, id := range s.fold.Overdue(c.number("now"), int(c.number("limit")), nil) {
			s.say("%s", s.names[id])
		}
	},
	"missing": func(s *scenario, c command) {
		missing, first := s.fold.Missing(s.id(c.word(1)), nil)
		s.say("missing %v of %v, expires %d%s%s", missing, first.Participants, first.Expires, orNothing(", since %d", first.Since),
			orNothing(", routing %d", first.Routing))
	},
	"stats": func(s *scenario, _ command) {
		stats, open, remembered := s.fold.Stats(), 0, 0
		open, remembered = s.fold.Len()
		s.say("log time %d, open %d, remembered %d, floor %d; malformed %d, stranger %d, late %d",
			s.fold.LogTime(), open, remembered, s.fold.Floor(), stats.Malformed, stats.Stranger, stats.Late)
	},
	"deliver": func(s *scenario, c command) { s.deliver(c.word(1), c.number("now")) },
	"tick":    func(s *scenario, c command) { s.delivery.Tick(c.number("now")) },
	"done":    func(s *scenario, c command) { s.done(c) },
	"register": func(s *scenario, c command) {
		s.delivery.Resend(c.word(1))
	},
	"retry": func(s *scenario, c command) { s.say("%v", s.delivery.Retry(s.id(c.word(1)))) },
	"debts": func(s *scenario, _ command) {
		for _, d := range s.delivery.Debts(nil) {
			s.say("%s is owed %d, %d of them voted, since %d", d.Participant, d.Outcomes, d.Voted, d.Since)
		}
	},
}

// id is the id of a name; it is minted at the server's time when the name is first used.
func (s *scenario) id(name string) messages.ID {
	id, ok := s.ids[name]
	if !ok {
		id = testID(s.now, len(s.ids)+1)
		s.ids[name], s.names[id] = id, name
	}
	return id
}

func (s *scenario) write(verb, rest string) {
	participant := ""
	if verb == "prepare" || verb == "vote" {
		participant, rest, _ = strings.Cut(rest, " ")
	}
	var data []byte
	for text := range strings.SplitSeq(rest, " + ") {
		data = append(s.record(verb, data, parseCommand(text)), '\n')
	}
	s.message(kindNamed(verb), participant, data)
}

func (s *scenario) record(verb string, data []byte, c command) []byte {
	id := s.id(c.word(0))
	switch verb {
	case "prepare":
		return messages.AppendPrepare(data, &messages.Prepare{
			Tx: id, Participants: strings.Split(c.fields["participants"], ","), Expires: c.number("expires"),
			Routing: uint64(c.number("routing")), Since: c.number("since"),
			Operations: []messages.Operation{{Payload: []byte("1")}},
		})
	case "vote":
		v := messages.VoteRecord{Tx: id, Reason: c.fields["reason"], WrongOwner: uint64(c.number("wrong_owner")), Conflict: c.fields["conflict"] == "true"}
		switch c.word(1) {
		case "yes":
			v.Vote = messages.VoteYes
		case "read-only":
			v.Vote = messages.VoteReadOnly
		case "held":
			v.Vote, v.Held = messages.VoteNo, true
		default:
			v.Vote = messages.VoteNo
		}
		return messages.AppendVote(data, &v)
	case "abort":
		return messages.AppendAbort(data, &messages.Abort{Tx: id, Reason: c.fields["reason"]})
	default:
		return messages.AppendFinished(data, &messages.Finished{Tx: id, Through: uint64(c.number("through"))})
	}
}

func (s *scenario) message(kind messages.Kind, participant string, data []byte) {
	m := testMessage{uint64(len(s.log)) + 1, s.now, kind, participant, data}
	s.log = append(s.log, m)
	s.say("%d:", m.sequence)
	s.result(s.fold.Message(m.sequence, m.at, m.kind, m.participant, m.data))
}

func (s *scenario) result(err error) {
	if err != nil {
		s.say("stopped: %v", err)
	}
	for _, e := range s.fold.Take() {
		s.effect(e)
	}
}

func (s *scenario) effect(e Effect) {
	tx := s.names[e.Tx]
	switch e.Kind {
	case Decided:
		s.say("%s %s%s", tx, e.Outcome, because(Verdict{e.Outcome, e.Participant, e.Reason, e.WrongOwner, e.Conflict}))
	case Send:
		presumed := ""
		if e.Presumed {
			presumed = ", presumed"
		} else {
			s.delivery.Owe(e, s.now)
		}
		s.say("send %s %s to %s for its yes at %d%s", tx, e.Outcome, e.Participant, e.Vote, presumed)
	case Finished:
		s.delivery.Forget(e.Tx)
		s.say("%s finished", tx)
	case Ignored:
		s.say("%s ignored", tx)
	}
}

// orNothing is the number, unless it is 0.
func orNothing[N int64 | uint64](format string, n N) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(format, n)
}

func because(v Verdict) string {
	s := ""
	if v.Participant != "" {
		s += " by " + v.Participant
	}
	if v.Reason != "" {
		s += ": " + v.Reason
	}
	if v.WrongOwner != 0 {
		s += fmt.Sprintf(", wrong owner by epoch %d", v.WrongOwner)
	}
	if v.Conflict {
		s += ", conflict"
	}
	return s
}

func (s *scenario) show(name string) {
	v, known := s.fold.View(s.id(name))
	if !known {
		s.say("not known")
		return
	}
	state := "open"
	if v.Finished {
		state = "finished"
	}
	s.say("%s %s%s, expires %d", state, v.Outcome, because(Verdict{v.Outcome, v.Participant, v.Reason, v.WrongOwner, v.Conflict}), v.Expires)
	for _, b := range v.Branches {
		prepared := ""
		if b.Prepared {
			prepared = "prepared, "
		}
		s.say("%s: %svote %s", b.Participant, prepared, b.Vote)
	}
}

func (s *scenario) checkpoint(name string) {
	at := s.fold.Checkpoint()
	s.checkpoints[name] = at
	s.say("sequence %d, log time before it %d, floor %d", at.Sequence, at.LogTime, at.Floor)
	for _, skip := range at.Skip {
		s.say("skip %s through %d", s.names[skip.Tx], skip.Last)
	}
}

// replay starts a new reader, at a checkpoint or (without a name) at the log's beginning. What the checkpoint does not
// need has been trimmed.
func (s *scenario) replay(name string) {
	from := s.checkpoints[name]
	s.fold, s.delivery = NewFold(s.cfg, from), NewDelivery(DeliveryConfig{})
	s.fold.Replay()
	for _, m := range s.log {
		if m.sequence >= from.Sequence {
			s.result(s.fold.Message(m.sequence, m.at, m.kind, m.participant, m.data))
		}
	}
	s.fold.Live()
	s.result(nil)
}

func (s *scenario) deliver(participant string, now int64) {
	commits, rollbacks := s.delivery.Batch(participant, now, nil, nil)
	for _, e := range commits {
		s.say("commit %s, yes at %d", s.names[e.Tx], e.Vote)
	}
	for _, e := range rollbacks {
		s.say("rollback %s, yes at %d", s.names[e.Tx], e.Vote)
	}
}

func (s *scenario) done(c command) {
	done := messages.Done{
		Tx: s.id(c.word(2)), Vote: uint64(c.number("vote")), Heuristic: c.fields["heuristic"], Working: c.word(3) == "working",
	}
	if f, ok := s.delivery.Done(c.word(1), &done, c.number("now")); ok {
		s.say("all done: finished %s through %d%s", s.names[f.Tx], f.Through, heuristics(f.Heuristics))
	}
}

func heuristics(reports []messages.HeuristicReport) (s string) {
	for _, h := range reports {
		s += ", heuristic at " + h.Participant + ": " + h.Reason
	}
	return s
}
