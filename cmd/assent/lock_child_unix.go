// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endSignals ask a process to end.
var endSignals = []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT}

// process is a command that was started.
//
// Where nobody types, it leads a process group of its own, and all of the group gets the signals: a shell's children too. In the
// foreground of a terminal it stays in ours, because the terminal lets only one group read, and stops and interrupts all of it by key;
// the rest of our group may be a pipeline or a script that is not ours to end, so then the command alone gets the signals that are not typed.
type process struct {
	cmd   *exec.Cmd
	typed bool // in the foreground of a terminal
}

func newProcess(cmd *exec.Cmd) *process {
	p := &process{cmd, inForeground()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !p.typed}
	endWithUs(cmd.SysProcAttr)
	return p
}

// inForeground tells whether our process group is the one to which the terminal's keys send signals.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // there is no terminal
	}
	defer func() { _ = tty.Close() }() // nothing was written
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// pass passes on a signal, unless the terminal has sent it to the command as well.
func (p *process) pass(sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if ok && (!p.typed || number == syscall.SIGTERM) {
		p.signal(number)
	}
}

func (p *process) terminate() { p.signal(syscall.SIGTERM) }
func (p *process) kill()      { p.signal(syscall.SIGKILL) }

// signal does not fail: what has ended needs no signal.
func (p *process) signal(sig syscall.Signal) {
	if p.typed {
		_ = p.cmd.Process.Signal(sig)
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
}

// groupPause is between two looks at whether a process group is empty.
const groupPause = 20 * time.Millisecond

// waitForRest waits, after the command's end, for the rest of its group to end or to be killed at the given time; nil: do not wait.
func (p *process) waitForRest(kill <-chan time.Time) {
	if p.typed || kill == nil {
		return
	}
	look := time.NewTicker(groupPause)
	defer look.Stop()
	for !errors.Is(syscall.Kill(-p.cmd.Process.Pid, 0), syscall.ESRCH) {
		select {
		case <-look.C:
		case <-kill:
			p.kill()
			return
		}
	}
}

// endedBy is the signal that ended a process, or nil.
func endedBy(state *os.ProcessState) os.Signal {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return status.Signal()
	}
	return nil
}
