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

// mutants are bugs that someone might well write into package locks, each with a test that finds it.
var mutants = []struct {
	name, file string // below locks/
	// line is in the file exactly once; mutant takes its place.
	line, mutant string
	// caught is the test that fails, here, or in the file's own package if inside.
	caught string
	inside bool
}{
	{
		"the resource in JetStream compares no tokens", "fence/kv_write.go",
		"if token.Compare(last.token) < 0 {", "if false {",
		"TestAResourceRefusesThePausedHolder/R1", false,
	},
	{
		"the resource in memory compares no tokens", "fence/memory.go",
		"if token.Compare(k.newest) < 0 {", "if false {",
		"TestMemoryRefusesOlderTokens", true,
	},
	{
		"the resource in SQL compares no tokens", "fence/sql.go",
		"if raised > 0 {", "if raised >= 0 {",
		"TestSQLRefusesOlderTokens", true,
	},
	{
		"unlock without a condition", "bucket.go",
		"		msg = tombstone(nil, freeFor)\n	}\n", "		return " + fmt.Sprintf(plainly, "tombstone(nil, freeFor)", "at", "b") + "\n	}\n",
		"TestAnEndedSessionTakesNothingBack/R1", false,
	},
	{
		"renewal without a condition", "session.go",
		"s.bucket.swap(ctx, s.at, s.beatMessage(r.beat), r.revision)", fmt.Sprintf(plainly, "s.beatMessage(r.beat)", "s.at", "s.bucket"),
		"TestAnEndedSessionTakesNothingBack/R1", false,
	},
	{
		"get, then act", "bucket.go",
		"	return b.swap(ctx, at, msg, expected)\n",
		"	if last, err := b.last(ctx, at); err == nil && last.revision != expected {\n		return 0, false, errConflict\n	}\n	return " +
			fmt.Sprintf(plainly, "msg", "at", "b") + "\n",
		"TestOneOfManyGetsAFreeKey/R1", false,
	},
	{
		"the deadline counts from the acknowledgement", "session.go",
		"r.sent.Add(s.cfg.TTL).Sub(s.begun)", "time.Now().Add(s.cfg.TTL).Sub(s.begun)",
		"TestDeadlineCountsFromTheSending/R1", false,
	},
	{
		"a session is ended before its TTL", "watch.go",
		"time.Since(since) >= ttl+grace(ttl)", "time.Since(since) >= 0",
		"TestALiveSessionIsNotEnded/R1", false,
	},
	{
		"whoever may share overtakes whoever waits", "internal/record/record.go",
		"case len(r.Queue) == 0 && r.admits(&op):", "case r.admits(&op):",
		"TestNobodyOvertakes/R1", false,
	},
	{
		"an unknown write has failed", "entry.go",
		"return a.Unknown(now)", "return a.Refused(now)",
		"TestGrantWithoutAcknowledgement/R1", false,
	},
	{
		"a write under way is a refusal", "bucket.go",
		"		return 0, true, errConflict\n", "		return 0, true, err\n",
		"TestAWriteUnderWayProvesNothing/R1", false,
	},
	{
		"a renewal that is refused is a lost session", "session.go",
		"		return s.settleRenewal(ctx)\n", "		s.end(fmt.Errorf(\"locks: %w\", ErrLost))\n		return false\n",
		"TestAWriteUnderWayProvesNothing/R1", false,
	},
	{
		"tokens begin anew with the bucket", "bucket.go",
		"Token{Incarnation: b.incarnations[at.stream], Sequence: sequence}", "Token{Incarnation: 1, Sequence: sequence}",
		"TestTokensGrowAcrossBuckets/R1", false,
	},
	{
		"unlock of what was taken away succeeds", "lock.go",
		"	if end.Why == \"\" {\n		return nil\n	}\n", "	if true {\n		return nil\n	}\n",
		"TestUnlockOfWhatWasTakenAway/R1", false,
	},
	{
		"direct gets are allowed", "bucket.go",
		"fault(have.AllowDirect, ", "fault(false, ",
		"TestChangedSettingsAreRefused/R1", false,
	},
	{
		"a lock has a TTL of the server", "bucket.go",
		"		msg.Data = r.Encode()\n", "		msg = &nats.Msg{Data: r.Encode(), Header: nats.Header{jetstream.MsgTTLHeader: {\"10s\"}}}\n",
		"TestNoLockExpiresByTheServersClock/R1", false,
	},
}

// TestMutants builds package locks once for each mutant, the source's line replaced by an overlay, and runs the test that is to catch
// it. Without -locks.all it tries every eighth, others every time.
func TestMutants(t *testing.T) {
	t.Parallel()
	first := rand.IntN(8)
	for i, m := range mutants {
		if !*allFlag && i%8 != first {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			where := "."
			if m.inside {
				where = "./" + filepath.Join("../../locks", filepath.Dir(m.file))
			}
			if out, failed := runMutant(t, m.file, m.line, m.mutant, m.caught, where); !failed {
				t.Errorf("%s does not notice:\n%s", m.caught, out)
			}
		})
	}
}

// runMutant tells whether a test fails when a file's line is replaced.
func runMutant(t *testing.T, file, line, mutant, test, where string) (output string, failed bool) {
	t.Helper()
	original, err := filepath.Abs(filepath.Join("../../locks", file))
	must(t, err)
	source, err := os.ReadFile(original)
	must(t, err)
	if n := strings.Count(string(source), line); n != 1 {
		t.Fatalf("%s has %d times %q", file, n, line)
	}
	overlay, err := writeOverlay(t.TempDir(), original, strings.Replace(string(source), line, mutant, 1))
	must(t, err)
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", overlay, "-vet=off", "-count=1", "-timeout=120s", "-run", pattern, where)
	cmd.Env = programs()
	out, err := cmd.CombinedOutput()
	// What does not compile has proved nothing.
	return string(out[:min(len(out), 4000)]), err != nil && strings.Contains(string(out), "--- FAIL: "+test)
}
