// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	allFlag  = flag.Bool("locks.all", false, "run every fault at one and at three replicas, for -locks.duration each, and every mutant")
	duration = flag.Duration("locks.duration", time.Minute, "how long each fault is repeated with -locks.all")
	seedFlag = flag.Uint64("locks.seed", 0, "seed of the workloads; 0 makes one up")
	parallel = flag.Int("locks.parallel", 8, "scenarios at once: most of them mostly wait")
)

// The programs that the processes of the tests run. A run of tests by a test is told by its environment where they are.
var serverBinary, clientBinary string

const serverEnv, clientEnv = "LOCKS_SERVER", "LOCKS_CLIENT"

// programs is the environment of a run of tests by a test.
func programs() []string {
	return append(os.Environ(), serverEnv+"="+serverBinary, clientEnv+"="+clientBinary)
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	// Not the package's default, the number of cores: scenarios wait for timeouts.
	if err := flag.Set("test.parallel", fmt.Sprint(*parallel)); err != nil {
		fmt.Println(err)
		return 1
	}
	dir, err := os.MkdirTemp("", "assent-locks-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	serverBinary, clientBinary = os.Getenv(serverEnv), os.Getenv(clientEnv)
	if serverBinary != "" { // a test runs tests
		return m.Run()
	}
	began := time.Now()
	if err := buildAll(dir); err != nil {
		fmt.Println("building the processes of the lock tests:", err)
		return 1
	}
	fmt.Printf("built the processes in %v\n", time.Since(began).Round(time.Millisecond))
	return m.Run()
}

func buildAll(dir string) error {
	serverBinary, clientBinary = filepath.Join(dir, "server"), filepath.Join(dir, "client")
	overlay, err := clockOverlay(dir)
	if err != nil {
		return err
	}
	if err := goBuild(serverBinary, "./server", "-overlay", overlay); err != nil {
		return err
	}
	if raceEnabled {
		return goBuild(clientBinary, "./client", "-race")
	}
	return goBuild(clientBinary, "./client")
}

func goBuild(binary, source string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", binary}, flags...), source)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// clockOverlay writes an overlay of the standard library in which time.Now adds what the variable time.clockStep says. No process but those
// that are built with it has that clock, and the machine's is not touched.
func clockOverlay(dir string) (string, error) {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	data, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	source := string(data)
	for _, change := range [][2]string{
		{"\nimport (\n", "\nimport (\n\t\"sync/atomic\"\n"},
		{"\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n", "\nfunc Now() Time {\n\tsec, nsec, mono := runtimeNow()\n\tsec += clockStep.Load() / 1e9\n"},
	} {
		if strings.Count(source, change[0]) != 1 {
			return "", errors.New("package time has changed: the overlay of its clock has to be written anew")
		}
		source = strings.Replace(source, change[0], change[1], 1)
	}
	source += "\n//go:linkname clockStep\nvar clockStep atomic.Int64\n"
	return writeOverlay(dir, original, source)
}

// writeOverlay gives the file for -overlay by which another source takes a file's place.
func writeOverlay(dir, original, source string) (string, error) {
	replacement, overlay := filepath.Join(dir, filepath.Base(original)), filepath.Join(dir, "overlay.json")
	encoded, err := json.Marshal(map[string]map[string]string{"Replace": {original: replacement}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(replacement, []byte(source), 0o600), os.WriteFile(overlay, encoded, 0o600))
}
