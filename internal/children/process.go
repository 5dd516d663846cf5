// SPDX-License-Identifier: Apache-2.0

package children

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// Family starts processes, and hears of each one's end. It owns one operating system thread: a child on Linux is bound
// to the life of the thread that made it, which must therefore be there as long as the family.
type Family struct {
	exe  string
	died func(error) // hears of an end that nobody asked for
	jobs chan func()
}

// New gives a family of children that run a program. died hears, in a goroutine of its own, of the end of a child that nobody asked for.
func New(exe string, died func(error)) *Family {
	f := &Family{exe: exe, died: died, jobs: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for job := range f.jobs {
			job()
		}
	}()
	return f
}

// Close ends the thread. Children that are still alive end with it on Linux.
func (f *Family) Close() { close(f.jobs) }

// Process is one program with its arguments. It may be started again after its end.
type Process struct {
	// Name is what people read of it.
	Name string

	args []string
	log  string // the file that gets its output

	family *Family
	mu     sync.Mutex
	cmd    *exec.Cmd
	wanted bool // its end was asked for
	exited chan struct{}
	err    error // of its end; valid once exited is closed
}

// Process makes one that is not started: its name for people, the file to which its output is appended, and its arguments.
func (f *Family) Process(name, log string, args ...string) *Process {
	return &Process{Name: name, args: args, log: log, family: f}
}

// Start starts it.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.family.exe, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = environment()
	cmd.SysProcAttr = bound()
	started := make(chan error)
	p.family.jobs <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, errors.Join(err, log.Close()))
	}
	exited := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd, p.wanted, p.exited, p.err = cmd, false, exited, nil
	go p.wait(cmd, log, exited)
	return nil
}

// wait reaps the process.
func (p *Process) wait(cmd *exec.Cmd, log io.Closer, exited chan struct{}) {
	err := errors.Join(cmd.Wait(), log.Close())
	p.mu.Lock()
	p.err = err
	wanted := p.wanted
	p.mu.Unlock()
	close(exited)
	if !wanted {
		p.family.died(fmt.Errorf("%s (process %d) ended by itself: %s; the end of its log:\n%s",
			p.Name, cmd.Process.Pid, cmd.ProcessState, lastLines(p.log, 10)))
	}
}

// Pid is the id of its last run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Kill is kill -9, by the process's id. It returns when the process is gone; one that is gone already is left alone.
func (p *Process) Kill() error {
	cmd, exited := p.want()
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.Name, err)
	}
	<-exited
	return nil
}

// Stop asks the process to end in order, and insists after the patience.
func (p *Process) Stop(patience time.Duration) error {
	cmd, exited := p.want()
	if cmd == nil {
		return nil
	}
	if err := terminate(cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-exited:
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s (process %d) did not end within %v of being asked to", p.Name, cmd.Process.Pid, patience), p.Kill())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil && graceful {
		return fmt.Errorf("%s did not end in order: %w; the end of its log:\n%s", p.Name, p.err, lastLines(p.log, 10))
	}
	return nil
}

// Pause stops the process where it is (SIGSTOP) until Resume (SIGCONT); Windows cannot. One that has ended is left alone.
func (p *Process) Pause() error { return p.signal("pause", pause) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal("resume", resume) }

func (p *Process) signal(what string, send func(*os.Process) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := send(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s %s: %w", what, p.Name, err)
	}
	return nil
}

// want notes that the process's end is asked for.
func (p *Process) want() (*exec.Cmd, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	return p.cmd, p.exited
}

// environment is this process's, without what would lead a child to another cluster.
func environment() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "NATS_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

// lastLines are the last lines of a log, for an error.
func lastLines(path string, count int) string {
	data, err := readTail(path)
	if err != nil {
		return fmt.Sprintf("  (%v)", err)
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-count):], "\n  ")
}

func readTail(path string) ([]byte, error) {
	const size = 8 << 10
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.NewSectionReader(file, max(0, info.Size()-size), size))
}
