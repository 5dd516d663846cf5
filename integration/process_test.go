// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take on a machine that is busy with other things.
const patience = 90 * time.Second

// process is one run of the node program.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	said  chan string   // what it says on standard output
	ended chan struct{} // closed when it has ended
	state *os.ProcessState

	mu      sync.Mutex
	doomed  bool // the test kills it, or has told it to die
	failing bool // it is expected to end with an error
}

// launch starts the node program; its standard error goes to log.
func launch(name, log string, env []string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: name, cmd: exec.Command(nodeBinary, args...), said: make(chan string, 16), ended: make(chan struct{})}
	fmt.Fprintf(file, "--- %s %s %s\n", strings.Join(env, " "), name, strings.Join(args, " "))
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = file
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.watch(stdout)
	return p, nil
}

func (p *process) watch(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		p.said <- lines.Text()
	}
	close(p.said)
	_ = p.cmd.Wait() // the state says it all
	p.state = p.cmd.ProcessState
	close(p.ended)
}

// hear waits for a line that begins with a word, and gives the rest of it.
func (p *process) hear(word string) (rest string, err error) {
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.said:
			if !ok {
				return "", fmt.Errorf("%s ended before it said %q", p.name, word)
			}
			if rest, ok := strings.CutPrefix(line, word); ok {
				return strings.TrimSpace(rest), nil
			}
		case <-timeout:
			return "", fmt.Errorf("%s did not say %q within %v", p.name, word, patience)
		}
	}
}

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && p.running() {
		t.Fatalf("signal %v to %s: %v", s, p.name, err)
	}
}

func (p *process) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// await waits until the process has ended.
func (p *process) await(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s has not ended within %v", p.name, patience)
	}
}

// doom says that the process is expected to be killed.
func (p *process) doom() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.doomed = true
}

// fail says that the process is expected to end with an error.
func (p *process) fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failing = true
}

// kill is kill -9.
func (p *process) kill(t testing.TB) {
	t.Helper()
	p.doom()
	p.signal(t, syscall.SIGKILL)
	p.await(t)
}

// wrong says what is wrong with how the process ended, if it has and something is.
func (p *process) wrong() string {
	if p.running() || p.state.Success() {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing && p.state.ExitCode() == 1 {
		return ""
	}
	if status, ok := p.state.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL && p.doomed {
		return ""
	}
	return fmt.Sprintf("%s ended by itself: %v", p.name, p.state)
}
