// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mutants are bugs that someone might well write into the checker, each with the test that finds it.
var mutants = []struct {
	name, file string
	// line is in the file exactly once; mutant takes its place.
	line, mutant string
	// caught is the test that fails.
	caught string
}{
	{"no ww", "graph.go", "s.add(writer, edge{to: l.writers[at], key: key, at: int32(at), kind: ww})", "", "TestPlanted/G0-1"},
	{"no wr", "graph.go", "s.add(l.writers[n-1], edge{to: o.tx, key: key, at: int32(n - 1), kind: wr})", "", "TestPlanted/G1c-1"},
	{"no rw", "graph.go", "s.add(o.tx, edge{to: l.writers[after], key: key, at: int32(after), kind: rw})", "", "TestPlanted/G2-item-1"},
	{"rw to what was read", "graph.go", "if after := next[n]; after < len(l.writers) {", "if after := next[max(n-1, 0)]; after < len(l.writers) {", "TestSimulatedWithoutAlarm"},
	{"wr from the version before", "graph.go", "if n > 0 && c.counts(l.writers[n-1]) {", "if n--; n > 0 && c.counts(l.writers[n-1]) {", "TestPlanted/G1c-1"},
	{"failed ones are in the order", "graph.go", "return writer != nobody && c.occurred[writer]", "return writer != nobody", "TestPlanted/G1a-4"},
	{"unknown ones never happened", "versions.go", "c.occurred[w.tx] = true\n\t\t}", "}", "TestPlanted/G0-3"},
	{"what nobody read is forgotten", "graph.go", "for _, tx := range appenders {\n\t\t\ts.add(o.tx, edge{to: tx, key: key, at: end, kind: rw})", "for range appenders {", "TestPlanted/G-single-1"},
	{"an instant leads nowhere", "graph.go", "s.add(node, edge{to: tx, kind: realtime})", "", "TestPlanted/G-single-realtime-1"},
	{"instants are not in order", "graph.go", "s.add(node-1, edge{to: node, kind: realtime})", "", "TestRealtimeFar"},
	{"what ends later comes before", "graph.go", "if moment.ended {", "if !moment.ended {", "TestSimulatedWithoutAlarm"},
	{"processes have no order", "graph.go", "s.add(before, edge{to: tx, kind: process})", "", "TestPlanted/G-single-process-1"},
	{"one's own appends are somebody's", "versions.go", "list = list[:len(list)-len(own)]", "_ = own", "TestSimulatedWithoutAlarm"},
	{"one's own appends need not be seen", "versions.go", "agrees := len(list) >= len(own) && slices.Equal(list[len(list)-len(own):], own)", "agrees := len(list) >= len(own)", "TestPlanted/internal-4"},
	{"reads need not agree", "versions.go", "c.incompatible(o, l)", "", "TestPlanted/incompatible-order-1"},
	{"the half of an append is the whole", "anomaly.go", "if !ok || w.last || w.tx == o.tx {", "if !ok || !w.last || w.tx == o.tx {", "TestPlanted/G1b-1"},
	{"a failed one may be read", "anomaly.go", "if ok && c.h.txs[w.tx].outcome == failed {", "if ok && c.h.txs[w.tx].outcome == unknown {", "TestPlanted/G1a-1"},
	{"an update may be lost", "anomaly.go", "if txs := updaters[length]; len(txs) > 1 {", "if txs := updaters[length]; len(txs) > 2 {", "TestPlanted/lost-update-1"},
	{"an append is lost before its end", "anomaly.go", "c.h.txs[tx].ended > c.h.txs[reader].invoked {", "false {", "TestClean"},
	{"two rw are one", "cycles.go", "class: G2Item, first: rw, back: data, second: true", "class: G2Item, first: rw, back: data", "TestPlanted/G-single-1"},
	{"rw may be in a row", "walk.go", "f.shape.apart && at%2 == 1 && e.kind == f.shape.first", "false", "TestPlanted/lost-update-2"},
	{"a single rw is several", "cycles.go", "return n > 1", "return n > 0", "TestPlanted/G-single-1"},
	{"ways leave their component", "scc.go", "t.low[top.node] = min(t.low[top.node], t.index[e.to])", "", "TestComponents"},
	{"low is not passed on", "scc.go", "t.low[parent] = min(t.low[parent], t.low[node])", "_ = parent", "TestComponents"},
	{"the wrong way round is pruned", "cycles.go", "if f.reach.of[from] < f.reach.of[home] {", "if f.reach.of[from] > f.reach.of[home] {", "TestPlanted/G-single-2"},
	{"serializable is snapshot isolation", "levels.go", "{Serializable, []Class{G2Item, NegativeBalance}},", "{Serializable, []Class{NegativeBalance}},", "TestPlanted/G2-item-1"},
	{"a bank may have a wrong sum", "bank.go", "if sum != c.h.total {", "if sum > c.h.total {", "TestPlanted/wrong-total-1"},
	{"shared memory is cut wrong", "history.go", "return longest[:len(list):len(list)]", "return longest[:len(list)-1]", "TestSimulatedWithoutAlarm"},
}

var everyMutant = flag.Bool("mutants", false, "run every mutant, each of which is compiled; without, a few of them")

func TestMutants(t *testing.T) {
	for i, m := range mutants {
		if !*everyMutant && i%14 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			if out, failed := runMutant(t, m.file, m.line, m.mutant, m.caught); !failed {
				t.Errorf("%s does not notice:\n%s", m.caught, out)
			}
		})
	}
}

// runMutant tells whether a test fails when a file's line is replaced.
func runMutant(t *testing.T, file, line, mutant, test string) (output string, failed bool) {
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), line); n != 1 {
		t.Fatalf("%s has %d times %q", file, n, line)
	}
	dir := t.TempDir()
	overlay := struct {
		Replace map[string]string `json:"Replace"` // as `go help build` spells it
	}{make(map[string]string)}
	original, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	overlay.Replace[original] = filepath.Join(dir, file)
	writeFile(t, overlay.Replace[original], []byte(strings.Replace(string(source), line, mutant, 1)))
	encoded, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "overlay.json"), encoded)
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-vet=off", "-count=1", "-timeout=60s", "-run", pattern, ".")
	out, err := cmd.CombinedOutput()
	// What does not compile has proved nothing.
	return string(out), err != nil && strings.Contains(string(out), "--- FAIL: "+test)
}

func writeFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
