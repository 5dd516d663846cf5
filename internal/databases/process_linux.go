// SPDX-License-Identifier: Apache-2.0

package databases

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bound makes a child die with its parent, and unable to hear the terminal's Ctrl-C: it is ended in order. If this is root, it runs as nobody.
func bound() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: unprivileged()}
}

// kill ends the process and its children. The first is halted before, so that it starts no others and sees to nothing.
func (p *process) kill() error {
	pid := p.command.Process.Pid
	if err := p.command.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	children, err := childrenOf(pid)
	for _, child := range children {
		if e := syscall.Kill(child, syscall.SIGKILL); e != nil && !errors.Is(e, syscall.ESRCH) {
			err = errors.Join(err, e)
		}
	}
	if err = errors.Join(err, p.command.Process.Kill()); err != nil {
		return err
	}
	<-p.ended
	return awaitGone(children)
}

// childrenOf lists the processes whose parent is pid.
func childrenOf(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	var children []int
	for _, stat := range stats {
		if _, parent := readStat(stat); parent == pid {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			if err != nil {
				return nil, err
			}
			children = append(children, child)
		}
	}
	return children, err
}

// readStat reads a process's state and parent; zeros if it is gone.
func readStat(path string) (state string, parent int) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", 0
	}
	// pid (name) state parent …, and the name may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return "", 0
	}
	if parent, err = strconv.Atoi(fields[1]); err != nil {
		return "", 0
	}
	return fields[0], parent
}

// awaitGone waits for killed processes, so that nobody writes any more. Who reaps them may take its time.
func awaitGone(pids []int) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for _, pid := range pids {
		for {
			state, _ := readStat(fmt.Sprintf("/proc/%d/stat", pid))
			if state == "" || state == "Z" || state == "X" {
				break
			}
			select {
			case <-look.C:
			case <-deadline.C:
				return fmt.Errorf("process %d does not die", pid)
			}
		}
	}
	return nil
}

// sweepPostgres removes the segment of shared memory by which servers on the same data notice each other; a killed one leaves it.
func sweepPostgres(s *Server) {
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		return // it ended in order
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 7 {
		return
	}
	var key, id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err != nil {
		return
	}
	var segment unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &segment); err == nil && int(segment.Perm.Key) == key && segment.Nattch == 0 {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // 56 bytes: at worst they stay until the machine restarts
	}
}
