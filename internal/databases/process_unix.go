// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package databases

import "syscall"

// bound keeps the terminal's Ctrl-C from a child: it is ended in order. If this is root, it runs as nobody.
func bound() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: unprivileged()}
}

// kill ends the main process. Its children notice, and end by themselves.
func (p *process) kill() error { return p.command.Process.Kill() }

func sweepPostgres(*Server) {}
