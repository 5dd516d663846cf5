// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"os/exec"
	"runtime"
)

// process is a server's main process.
type process struct {
	command *exec.Cmd
	ended   chan struct{}
}

// run starts a command. The kernel ends it with the thread that started it, which therefore waits for it and does nothing else.
func run(command *exec.Cmd) (*process, error) {
	p := &process{command: command, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		started <- err
		if err == nil {
			_ = command.Wait() // how it ended, its log says
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}
