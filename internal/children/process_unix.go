// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package children

import (
	"os"
	"syscall"
)

// bound puts a child into a process group of its own, so that Ctrl-C reaches only this process, which ends its children in order.
func bound() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// graceful: a process can be asked to end.
const graceful = true
