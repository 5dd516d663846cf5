// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// plainly is a write without a condition, in place of a compare-and-swap.
const plainly = `func() (uint64, bool, error) {
	msg := %s
	msg.Subject = %s.subject
	ack, err := %s.js.PublishMsg(ctx, msg)
	if err != nil {
		return 0, false, errUnknown
	}
	return ack.Sequence, false, nil
}()`

// putLine is the write of a key's record.
const putLine = "	return b.swap(ctx, at, recordMessage(r), expected)\n"

// mutants are bugs that someone might well write into package locks, each with a test that finds it.
var mutants = []struct {
	name, file string // from locks/
	// line is in the file exactly once; mutant takes its place.
	line, mutant string
	// caught is the test that fails.
	caught string
	where  place
}{
	{
		"the resource in JetStream compares no tokens", "fence/kv_write.go",
		"if token.Compare(last.token) < 0 {", "if false {",
		"TestAResourceRefusesThePausedHolder/R1", here,
	},
	{
		"the resource in memory compares no tokens", "fence/memory.go",
		"if token.Compare(k.newest) < 0 {", "if false {",
		"TestMemoryRefusesOlderTokens", inside,
	},
	{
		"the resource in SQL compares no tokens", "fence/sql.go",
		"if raised > 0 {", "if raised >= 0 {",
		"TestSQLRefusesOlderTokens", inside,
	},
	{
		"unlock without a condition", "bucket.go",
		putLine, "	if r.Free() {\n		return " + fmt.Sprintf(plainly, "recordMessage(r)", "at", "b") + "\n	}\n" + putLine,
		"TestAnEndedSessionTakesNothingBack/R1", here,
	},
	{
		"renewal without a condition", "session.go",
		"s.bucket.swap(ctx, s.at, msg, expected)", fmt.Sprintf(plainly, "msg", "s.at", "s.bucket"),
		"TestAnEndedSessionTakesNothingBack/R1", here,
	},
	{
		"get, then act", "bucket.go",
		putLine, "	if last, err := b.last(ctx, at); err == nil && last.revision != expected {\n		return 0, false, errConflict\n	}\n	return " +
			fmt.Sprintf(plainly, "recordMessage(r)", "at", "b") + "\n",
		"TestOneOfManyGetsAFreeKey/R1", here,
	},
	{
		"the deadline counts from the acknowledgement", "session.go",
		"r.sent.Add(s.cfg.TTL).Sub(s.begun)", "time.Now().Add(s.cfg.TTL).Sub(s.begun)",
		"TestDeadlineCountsFromTheSending/R1", here,
	},
	{
		"a session is ended before its TTL", "watch.go",
		"time.Since(since) >= ttl+grace(ttl)", "time.Since(since) >= 0",
		"TestALiveSessionIsNotEnded/R1", here,
	},
	{
		"whoever may share overtakes whoever waits", "internal/record/record.go",
		"case len(r.Queue) == 0 && r.admits(&op):", "case r.admits(&op):",
		"TestNobodyOvertakes/R1", here,
	},
	{
		"an unknown write has failed", "entry.go",
		"return a.Unknown(now)", "return a.Refused(now)",
		"TestGrantWithoutAcknowledgement/R1", here,
	},
	{
		"a write under way is a refusal", "bucket.go",
		"		return 0, true, errConflict\n", "		return 0, true, err\n",
		"TestAWriteUnderWayProvesNothing/R1", here,
	},
	{
		"a renewal that is refused is a lost session", "session.go",
		"			return s.settleRenewal(&w)\n", "			s.end(fmt.Errorf(\"locks: %w\", ErrLost))\n			return true\n",
		"TestAWriteUnderWayProvesNothing/R1", here,
	},
	{
		"tokens begin anew with the bucket", "bucket.go",
		"Token{Incarnation: b.incarnations[at.stream], Sequence: sequence}", "Token{Incarnation: 1, Sequence: sequence}",
		"TestTokensGrowAcrossBuckets/R1", here,
	},
	{
		"an answer that is late is not waited for", "repeat.go",
		"context.WithTimeout(ctx, maxAsked*t.most)", "context.WithTimeout(ctx, t.every)",
		"TestASessionLivesOnASlowServer/R1", here,
	},
	{
		"unlock of what was taken away succeeds", "lock.go",
		"	if end.Why == \"\" {\n		return nil\n	}\n", "	if true {\n		return nil\n	}\n",
		"TestUnlockOfWhatWasTakenAway/R1", here,
	},
	{
		"direct gets are allowed", "../internal/streams/settings.go",
		"flag(have.AllowDirect, want.AllowDirect, ", "flag(false, false, ",
		"TestChangedSettingsAreRefused/R1", here,
	},
	{
		"a lock has a TTL of the server", "bucket.go",
		"return &nats.Msg{Data: r.Encode(), Header: nats.Header{}}",
		"return &nats.Msg{Data: r.Encode(), Header: nats.Header{jetstream.MsgTTLHeader: {\"10s\"}}}",
		"TestNoLockExpiresByTheServersClock/R1", here,
	},
	{
		"an answer makes what is known older", "internal/agent/agent.go",
		"if revision < a.revision { // somebody has told of a later one before", "if false {",
		"TestSimulation", inside,
	},
	{
		"who was forced out unaware does not join again", "internal/agent/agent.go",
		"			a.joins = append(a.joins, op.Operation) // it was granted,", "			// it was granted,",
		"TestSimulation", inside,
	},
	{
		"what was forced out counts as given back", "internal/agent/decide.go",
		"case a.forced(op):", "case false:",
		"TestSimulation", inside,
	},
	{
		"a try is refused by what was read before it came", "internal/agent/decide.go",
		"op.came < a.answered", "op != nil",
		"TestATryIsRefusedByNothingOlder", inside,
	},
	{
		"a keeper is not told that another holder is dead", "internal/agent/agent.go",
		"len(gone) > 0 {", "len(gone) < 0 {",
		"TestTheKeeperIsToldWhoIsDead", inside,
	},
	{
		"a lost write is left to come when it likes", "internal/agent/decide.go",
		"case a.doubt && a.revision <= a.unsettled:", "case false:",
		"TestSimulation", inside,
	},
	{
		"a session is ended before its TTL (dice)", "watch.go",
		"time.Since(since) >= ttl+grace(ttl)", "time.Since(since) >= ttl*6/10",
		"TestFaults/Partition/R1", processes,
	},
	{
		"a session is sure of itself for too long (dice)", "session.go",
		"r.sent.Add(s.cfg.TTL).Sub(s.begun)", "time.Now().Add(s.cfg.TTL*5/4).Sub(s.begun)",
		"TestFaults/Partition/R1", processes,
	},
}

// place is where a mutant shows.
type place int

const (
	here      place = iota // in a session of a test here
	processes              // in client processes, which are built with it
	inside                 // in a test of the file's own package
)

// diceRuns is how many runs of random faults may miss a mutant that one of them has to find. Each has a seed of its own.
const diceRuns = 6

// TestMutants builds package locks once for each mutant, the source's line replaced by an overlay, and runs the test that is to catch
// it. Without -locks.all it tries every eighth, others every time, and none that only dice find; that each still fits the source is
// checked of all.
func TestMutants(t *testing.T) {
	t.Parallel()
	first := rand.IntN(8)
	for i, m := range mutants {
		original, mutated, err := mutate(m.file, m.line, m.mutant)
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
			continue
		}
		if !*allFlag && (i%8 != first || m.where == processes) {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			runs := 1
			if m.where == processes {
				runs = diceRuns
			}
			var out string
			for failed := false; !failed && runs > 0; runs-- {
				out, failed = runMutant(t, original, mutated, m.caught, m.where)
				if failed {
					return
				}
			}
			t.Errorf("%s does not notice:\n%s", m.caught, out)
		})
	}
}

// mutate gives a source file of package locks, and its text with a line replaced.
func mutate(file, line, mutant string) (original, mutated string, err error) {
	original, err = filepath.Abs(filepath.Join("../../locks", file))
	if err != nil {
		return "", "", err
	}
	source, err := os.ReadFile(original)
	if err != nil {
		return "", "", err
	}
	if n := strings.Count(string(source), line); n != 1 {
		return "", "", fmt.Errorf("%s has %d times %q", file, n, line)
	}
	return original, strings.Replace(string(source), line, mutant, 1), nil
}

// runMutant tells whether a test fails when a file has another text.
func runMutant(t *testing.T, original, mutated, test string, where place) (output string, failed bool) {
	t.Helper()
	overlay, err := writeOverlay(t.TempDir(), original, mutated)
	must(t, err)
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	tested := "."
	if where == inside {
		tested = filepath.Dir(original)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=120s", "-run", pattern, tested)
	if cmd.Env = programs(); where == processes {
		cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay) // for the build of the clients
	}
	out, err := cmd.CombinedOutput()
	// What does not compile has proved nothing.
	return string(out[:min(len(out), 4000)]), err != nil && strings.Contains(string(out), "--- FAIL: "+test)
}
