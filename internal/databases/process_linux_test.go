// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asParent makes the test binary a program that starts a server and is killed.
const asParent = "ASSENT_TEST_DATABASES_PARENT"

func parent() {
	start := StartPostgres
	if os.Getenv(asParent) == "mysql" {
		start = StartMariaDB
	}
	s, err := start("")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("pid", s.process.command.Process.Pid, s.dir, s.sockets)
	select {}
}

// A server ends with the process that started it, even when that is killed.
func TestNoServerIsLeft(t *testing.T) {
	for _, kind := range both {
		t.Run(kind.driver, func(t *testing.T) {
			t.Parallel()
			kind.shared(t) // or the test is skipped
			command := exec.CommandContext(t.Context(), os.Args[0])
			command.Env = append(os.Environ(), asParent+"="+kind.driver)
			output, err := command.StdoutPipe()
			must(t, err)
			must(t, command.Start())
			line, err := bufio.NewReader(output).ReadString('\n')
			must(t, err)
			var pid int
			var dir, sockets string
			if _, err := fmt.Sscanf(line, "pid %d %s %s", &pid, &dir, &sockets); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			pids, err := childrenOf(pid)
			must(t, err)
			pids = append(pids, pid)
			must(t, command.Process.Kill())
			_ = command.Wait() // it says that it was killed
			must(t, awaitGone(pids))
			sweepPostgres(&Server{dir: dir})
			must(t, os.RemoveAll(dir))
			must(t, os.RemoveAll(sockets))
		})
	}
}

// After Kill none of the server's processes is left: PostgreSQL has several.
func TestKillEndsAll(t *testing.T) {
	t.Parallel()
	s := Postgres(t)
	children, err := childrenOf(s.process.command.Process.Pid)
	must(t, err)
	if len(children) < 3 {
		t.Fatalf("the postmaster has the children %v: want a checkpointer, a writer, …", children)
	}
	must(t, s.Kill())
	for _, child := range children {
		if name, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(child), "cmdline")); err == nil && strings.HasPrefix(string(name), "postgres") {
			t.Errorf("%s is left", name)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "data", "postmaster.pid")); err != nil {
		t.Errorf("it ended in order, and was not killed: %v", err)
	}
}
