// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package children

import (
	"errors"
	"os"
	"syscall"
)

func bound() *syscall.SysProcAttr { return nil }

// terminate kills: there is no signal to ask with.
func terminate(p *os.Process) error { return p.Kill() }

const graceful = false

// CanPause says that a process can be stopped where it is.
const CanPause = false

func pause(*os.Process) error { return errors.ErrUnsupported }

func resume(*os.Process) error { return errors.ErrUnsupported }
