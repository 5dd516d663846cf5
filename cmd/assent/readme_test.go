// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/internal/databases"
)

// TestReadme runs every command of README.md, in order, as a newcomer would: in the checkout, with what is made kept in a
// folder of the test's, on a port of its own. The two commands of its first screen take long and are run by .ci/run.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs programs that it builds, in which the race detector would see nothing: -short was given")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	ci, err := os.ReadFile(filepath.Join(root, ".ci", "run"))
	if err != nil {
		t.Fatal(err)
	}
	tour := newTour(t, root)
	first := map[string]bool{"go run ./cmd/assent demo": false, "go test ./...": false}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			if _, ok := first[line]; ok {
				first[line] = true
				continue
			}
			if line == "go run ./examples/checkout" && !hasPostgres(t) {
				continue
			}
			tour.run(line)
		}
	}
	for line, found := range first {
		if !found {
			t.Errorf("README.md no longer says %q", line)
		}
		if words := strings.Fields(line); !bytes.Contains(ci, []byte(strings.Join(words[:2], " "))) || !bytes.Contains(ci, []byte(words[2])) {
			t.Errorf(".ci/run does not run %q", line)
		}
	}
}

// hasPostgres tells whether there is what the checkout needs. Where it must be, its lack is a failure.
func hasPostgres(t *testing.T) bool {
	server, err := databases.StartPostgres("")
	switch {
	case err == nil:
		return server.Close() == nil
	case errors.Is(err, databases.ErrNotInstalled) && os.Getenv("ASSENT_DATABASES") != "required":
		t.Logf("the checkout is left out: %v", err)
		return false
	default:
		t.Fatal(err)
		return false
	}
}

// tour is a newcomer's afternoon.
type tour struct {
	t         *testing.T
	root, dir string
	address   string
	banks     int
}

func newTour(t *testing.T, root string) *tour {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return &tour{t: t, root: root, dir: t.TempDir(), address: address}
}

// command is a line of the README as a shell command: its folder and port are the test's, and its patience is short.
func (tr *tour) command(line string) *exec.Cmd {
	url := "nats://" + tr.address
	line = strings.NewReplacer(
		"tour/assent serve", tr.dir+"/assent serve --listen "+tr.address,
		"tour/bank -name", tr.dir+"/bank -server "+url+" -name",
		"go run ./examples/transfer", "go run ./examples/transfer "+url,
		"--duration 1s", "--duration 100ms --warmup 50ms",
		"tour/", tr.dir+"/",
	).Replace(line)
	cmd := exec.Command("bash", "-c", line)
	cmd.Dir = tr.root
	cmd.Env = append(os.Environ(), "NATS_URL="+url)
	return cmd
}

func (tr *tour) run(line string) {
	tr.t.Helper()
	if command, ok := strings.CutSuffix(line, " &"); ok {
		tr.start("exec " + command)
		return
	}
	output, err := tr.command(line).CombinedOutput()
	if err != nil {
		tr.t.Errorf("%s\n%v\n%s", line, err, output)
	}
}

// start runs a command in the background until the test ends, and waits until the cluster has what it brings.
func (tr *tour) start(line string) {
	tr.t.Helper()
	cmd := tr.command(line)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			tr.t.Errorf("%s had ended: %v\n%s", line, err, &output)
		}
		if err := cmd.Wait(); err != nil {
			tr.t.Errorf("%s: %v\n%s", line, err, &output)
		}
	})
	if strings.Contains(line, "tour/bank") {
		tr.banks++
	}
	ctx, cancel := context.WithTimeout(tr.t.Context(), time.Minute)
	defer cancel()
	for tr.instances() < tr.banks {
		if ctx.Err() != nil {
			tr.t.Fatalf("%s is not seen in the cluster", line)
		}
	}
}

// instances counts the participants that answer; -1 while nobody can be asked.
func (tr *tour) instances() int {
	output, err := tr.command("tour/assent participants --json").Output()
	var response coordinator.ParticipantsResponse
	if err != nil || json.Unmarshal(output, &response) != nil {
		return -1
	}
	count := 0
	for _, p := range response.Participants {
		count += p.Instances
	}
	return count
}
