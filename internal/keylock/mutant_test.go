// SPDX-License-Identifier: Apache-2.0

package keylock

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutants are bugs that someone might well write into the table, each with the test that finds it.
var mutants = []struct{ name, file, line, mutant, caught string }{
	{
		"readers overtake an older writer", "lock.go",
		"	l.queue = slices.Insert(l.queue, at, w)\n", "	if w.shared && l.exclusive == 0 { at = 0 }\n	l.queue = slices.Insert(l.queue, at, w)\n",
		"TestTableModelProperty",
	},
	{
		"one who came before an older one stays before it", "lock.go",
		"			behind.branch.blocked++\n", "			_ = behind\n",
		"TestTableModelProperty",
	},
	{
		"a waiter that is not the first is lost when the first goes", "lock.go",
		"free < len(l.queue) && l.queue[free].shared; {", "free < min(1, len(l.queue)) && l.queue[free].shared; {",
		"TestTableModelProperty",
	},
	{
		"who goes leaves its place in the queue counted", "lock.go",
		"	if at < l.clear {\n		l.clear--\n	}\n", "",
		"TestTableModelProperty",
	},
	{
		"what holds everything is let go of for nobody", "table.go",
		"			t.unblock(b)\n", "			b.blocked--\n",
		"TestTableModelProperty",
	},
	{
		"the newcomer is turned away, and not the youngest", "table.go",
		"		turned := t.waiting[0]\n", "		turned := b\n		if b.at == nowhere { break }\n",
		"TestTableModelProperty",
	},
	{
		"an older holder is wounded", "wound.go",
		"if h.conflicts(w) && by.age.compare(h.branch.age) < 0 {", "if h.conflicts(w) {",
		"TestTableModelProperty",
	},
	{
		"nobody is wounded", "wound.go",
		"	if !b.wounded {\n", "	if b.wounded {\n",
		"TestSimulationProperty",
	},
	{
		"keys of one who has them are granted to the next", "table.go",
		"		w.lock.hold(w)\n", "		if len(b.wants) < 3 || i > 0 { w.lock.hold(w) }\n",
		"TestTableModelProperty",
	},
}

// TestMutants builds the package once for each mutant, and runs the test that is to catch it. Under -short it tries every third.
func TestMutants(t *testing.T) {
	for i, m := range mutants {
		if testing.Short() && i%3 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.line); n != 1 {
				t.Fatalf("%s has %d times %q", m.file, n, m.line)
			}
			dir := t.TempDir()
			original, err := filepath.Abs(m.file)
			if err != nil {
				t.Fatal(err)
			}
			overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: filepath.Join(dir, m.file)}})
			if err != nil {
				t.Fatal(err)
			}
			for name, data := range map[string][]byte{m.file: []byte(strings.Replace(string(source), m.line, m.mutant, 1)), "overlay.json": overlay} {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.CommandContext(t.Context(), "go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-vet=off", "-count=1", "-timeout=60s",
				"-run", "^"+m.caught+"$", ".", "-args", "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.checks=5000", "-rapid.seed=1").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: "+m.caught) { // what does not compile has proved nothing
				t.Errorf("%s does not notice:\n%s", m.caught, out)
			}
		})
	}
}
