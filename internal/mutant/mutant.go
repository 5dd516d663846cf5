// SPDX-License-Identifier: Apache-2.0

package mutant

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Bug is a bug, and who is to notice it.
type Bug struct {
	// Name says what is wrong, in words.
	Name string
	// File is the source file, and Line what is in it exactly once, within a function; Text takes its place.
	File, Line, Text string
	// Caught is the test that fails, with its subtest if there is one: "TestFold/expiry".
	Caught string
}

// Test builds the package in the current directory once, with all the mutants, and runs for each, as a subtest, the test that is to
// catch it, with more arguments for its binary. It gives what the test printed to see, if see is not nil. Under -short it tries
// every fifth.
func Test(t *testing.T, bugs []Bug, see func(t *testing.T, output string), args ...string) {
	t.Helper()
	binary := build(t, bugs)
	for i, m := range bugs {
		if testing.Short() && i%5 != 0 {
			continue
		}
		t.Run(strings.ReplaceAll(m.Name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			output, caught := run(t, binary, i+1, m.Caught, args)
			if !caught {
				t.Fatalf("%s does not notice:\n%s", m.Caught, output)
			}
			if see != nil {
				see(t, output)
			}
		})
	}
}

// chosen is the environment variable with the number of the mutant that a binary runs with.
const chosen = "ASSENT_MUTANT"

// run runs a test with one mutant, and tells whether it failed.
func run(t *testing.T, binary string, number int, test string, args []string) (output string, failed bool) {
	t.Helper()
	pattern := "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"-test.run", pattern, "-test.timeout=120s"}, args...)...)
	cmd.Env = append(os.Environ(), chosen+"="+strconv.Itoa(number))
	out, err := cmd.CombinedOutput()
	// A process that died otherwise has proved nothing.
	return string(out), err != nil && strings.Contains(string(out), "--- FAIL: "+test)
}

// build gives the test binary of the package in the current directory, with all mutants in it.
func build(t *testing.T, bugs []Bug) (binary string) {
	t.Helper()
	sources := make(map[string]*source)
	for i, m := range bugs {
		s := sources[m.File]
		if s == nil {
			s = must[*source](t)(parse(m.File))
			sources[m.File] = s
		}
		if err := s.add(i+1, m); err != nil {
			t.Fatalf("the mutant %q: %v", m.Name, err)
		}
	}
	dir := t.TempDir()
	replace := make(map[string]string)
	var name string
	for file, s := range sources {
		name = s.file.Name.Name
		replace[file] = s.String()
	}
	replace["mutant_choice.go"] = fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar %s, _ = strconv.Atoi(os.Getenv(%q))\n", name, choice, chosen)
	overlay := writeOverlay(t, dir, replace)
	binary = filepath.Join(dir, "mutants.test")
	out, err := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlay, "-o", binary, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("a mutant does not compile: %v\n%s", err, out)
	}
	return binary
}

// writeOverlay writes sources, by their names in the current directory, and gives the file for -overlay.
func writeOverlay(t *testing.T, dir string, sources map[string]string) string {
	t.Helper()
	overlay := struct {
		Replace map[string]string `json:"Replace"` // as `go help build` spells it
	}{make(map[string]string)}
	for file, text := range sources {
		original := must[string](t)(filepath.Abs(file))
		overlay.Replace[original] = filepath.Join(dir, file)
		write(t, overlay.Replace[original], []byte(text))
	}
	path := filepath.Join(dir, "overlay.json")
	write(t, path, must[[]byte](t)(json.Marshal(overlay)))
	return path
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
