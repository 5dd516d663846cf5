// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package databases

import "syscall"

func bound() *syscall.SysProcAttr { return nil }

func (p *process) kill() error { return p.command.Process.Kill() }

func sweepPostgres(*Server) {}

func giveTo(string) error { return nil }
