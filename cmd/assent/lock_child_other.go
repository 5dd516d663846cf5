// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package main

import (
	"os"
	"os/exec"
	"time"
)

// endSignals ask a process to end.
var endSignals = []os.Signal{os.Interrupt}

// process is a command that was started. There is no SIGTERM here: to be told to end is to be ended. What is typed at a
// console reaches the command by itself.
type process struct{ cmd *exec.Cmd }

func newProcess(cmd *exec.Cmd) *process { return &process{cmd} }

func (p *process) pass(os.Signal) {}

func (p *process) terminate() { p.kill() }

// kill does not fail: what has ended needs no killing.
func (p *process) kill() { _ = p.cmd.Process.Kill() }

func (p *process) waitForRest(<-chan time.Time) {}

// endedBy is the signal that ended a process: there are none here.
func endedBy(*os.ProcessState) os.Signal { return nil }
