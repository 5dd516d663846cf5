// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take on a machine that is busy with other things.
const patience = 90 * time.Second

// process is one run of a program.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  chan string   // what it says on standard output
	ended chan struct{} // closed when it has ended

	doomed atomic.Bool // the test kills it
}

// launch starts a program; its standard error goes to log. It is started by the calling thread, in whose network it is.
func launch(name, log, binary string, args ...string) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &process{name: name, cmd: exec.Command(binary, args...), said: make(chan string, 64), ended: make(chan struct{})}
	fmt.Fprintf(file, "--- %s %s\n", name, strings.Join(args, " "))
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

// watch keeps the newest of what it says; a process must not wait until somebody listens.
func (p *process) watch(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		select {
		case p.said <- lines.Text():
		default:
			<-p.said
			p.said <- lines.Text()
		}
	}
	close(p.said)
	_ = p.cmd.Wait() // the state says it all
	close(p.ended)
}

// hear waits for a line that begins with a word, and gives the rest of it.
func (p *process) hear(t testing.TB, word string) (rest string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.said:
			if !ok {
				t.Fatalf("%s ended before it said %q", p.name, word)
			}
			if first, rest, _ := strings.Cut(line, " "); first == word {
				return rest
			}
		case <-timeout:
			t.Fatalf("%s did not say %q within %v", p.name, word, patience)
		}
	}
}

// tell writes a line to its standard input.
func (p *process) tell(t testing.TB, line string) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
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

// kill is kill -9.
func (p *process) kill(t testing.TB) {
	t.Helper()
	p.doomed.Store(true)
	p.signal(t, syscall.SIGKILL)
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s has not ended within %v", p.name, patience)
	}
}

// pause is SIGSTOP, resume SIGCONT.
func (p *process) pause(t testing.TB)  { t.Helper(); p.signal(t, syscall.SIGSTOP) }
func (p *process) resume(t testing.TB) { t.Helper(); p.signal(t, syscall.SIGCONT) }

// stop ends it in order, and fails the test if it does not end so.
func (p *process) stop(t testing.TB, command string) {
	t.Helper()
	if p.running() {
		p.signal(t, syscall.SIGCONT)
		if command == "" {
			_ = p.stdin.Close()
		} else {
			_, _ = io.WriteString(p.stdin, command+"\n") // it may have ended just now
		}
		select {
		case <-p.ended:
		case <-time.After(patience):
			t.Errorf("%s did not end within %v", p.name, patience)
			p.kill(t)
		}
	}
	if !p.cmd.ProcessState.Success() && !p.doomed.Load() {
		t.Errorf("%s ended by itself: %v", p.name, p.cmd.ProcessState)
	}
}
