// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

var (
	allFaults = flag.Bool("faults.all", false, "run every combination of faults, and the large numbers")
	seedFlag  = flag.Uint64("faults.seed", 0, "seed of the workloads; 0 makes one up")
	parallel  = flag.Int("faults.parallel", 10, "scenarios at once: most of them mostly wait")
)

// nodeBinary is the program that the processes of the tests run.
var nodeBinary string

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
	dir, err := os.MkdirTemp("", "assent-faults-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	nodeBinary = filepath.Join(dir, "node")
	arguments := []string{"build", "-buildvcs=false", "-tags", "faults", "-o", nodeBinary}
	if raceEnabled {
		arguments = append(arguments, "-race")
	}
	build := exec.Command("go", append(arguments, "./node")...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	began := time.Now()
	if err := build.Run(); err != nil {
		fmt.Println("building the processes of the fault tests:", err)
		return 1
	}
	fmt.Printf("built the processes in %v\n", time.Since(began).Round(time.Millisecond))
	return m.Run()
}
