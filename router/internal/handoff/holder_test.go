// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the transcripts give into testdata")

// TestHolderTranscripts runs testdata/*.txt: what comes to the holder of node a (a line), and what it wants done (the indented lines below
// it). With -rewrite those are written anew, to be reviewed as a diff.
func TestHolderTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 10 {
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
	h := NewHolder("a")
	for line := range strings.Lines(string(want)) {
		if strings.HasPrefix(line, " ") {
			continue
		}
		got.WriteString(line)
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") {
			for _, out := range tell(t, h, text) {
				got.WriteString("  " + out + "\n")
			}
		}
	}
	if *rewrite {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got.String() != string(want) {
		t.Errorf("\n--- got\n%s--- want\n%s", got.String(), want)
	}
}

// tell tells the holder what a line says.
func tell(t *testing.T, h *Holder, text string) (out []string) {
	verb, rest, _ := strings.Cut(text, " ")
	p, _ := strconv.Atoi(rest)
	switch verb {
	case "expect":
		h.Expect()
	case "recalled":
		h.Recalled()
	case "join":
		h.Joined(rest)
	case "lost":
		h.Lost()
	case "gone":
		h.Gone()
	case "record":
		h.Ring(draw(t, rest))
	case "again": // the group was made again
		r := draw(t, rest)
		r.Incarnation++
		h.Ring(r)
	case "drained":
		h.Drained(p)
	case "done":
		h.Done(p, true)
	case "failed":
		h.Done(p, false)
	case "retry":
		h.Retry(p)
	case "show":
		text := fmt.Sprintf("named %v, ready %v, quiet %v", h.Named(), h.Ready(), h.Quiet())
		if h.Releasing() {
			text += ", releasing"
		}
		return []string{text}
	default:
		t.Fatalf("%s?", text)
	}
	for _, step := range h.Take() {
		out = append(out, showStep(h, &step))
	}
	return out
}

func showStep(h *Holder, s *Step) string {
	text := fmt.Sprintf("%v %d", s.Kind, s.Partition)
	switch s.Kind {
	case Announce:
		said := h.Presence()
		text = fmt.Sprintf("announce %s, incarnation %d, released %v", said.Session, said.Incarnation, said.Released)
		if !s.Urgent {
			text += ", which may wait"
		}
	case AskAcquire, AskRelease, AskDrop:
		text += fmt.Sprintf(" from %q to %q since %d, epoch %d", s.From, s.To, s.Since, s.Epoch)
	default:
	}
	return text
}

func TestHolderRefusesAnAnswerToNothing(t *testing.T) {
	h := NewHolder("a")
	defer func() {
		if recover() == nil {
			t.Error("a hook ended that was not asked, and nobody minds")
		}
	}()
	h.Done(3, true)
}

// TestHolderIgnoresWhatConcernsNothing: events for partitions that it has nothing of.
func TestHolderIgnoresWhatConcernsNothing(t *testing.T) {
	h := NewHolder("a")
	h.Drained(1)
	h.Retry(1)
	h.Recalled()
	h.Gone()
	h.Lost()
	if steps := h.Take(); len(steps) != 0 || h.Named() || h.Ready() || !h.Quiet() || h.Record() != nil {
		t.Errorf("%v", steps)
	}
}
