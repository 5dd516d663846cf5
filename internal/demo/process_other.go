// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package demo

import (
	"os"
	"syscall"
)

func bound() *syscall.SysProcAttr { return nil }

// terminate kills: there is no signal to ask with.
func terminate(p *os.Process) error { return p.Kill() }

const graceful = false
