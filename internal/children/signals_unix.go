// SPDX-License-Identifier: Apache-2.0

//go:build unix

package children

import (
	"os"
	"syscall"
)

// CanPause says that a process can be stopped where it is.
const CanPause = true

func pause(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
