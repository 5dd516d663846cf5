// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"
)

// signals are those that ask to end, taken from main: it would end this process at the second one, and leave the command
// behind without its lock.
type signals struct{ ch chan os.Signal }

// takeSignals takes signals until stop is called. One that main had already got comes first.
func takeSignals(ctx context.Context) *signals {
	s := &signals{make(chan os.Signal, 16)}
	signal.Reset(endSignals...)
	if ctx.Err() != nil {
		s.ch <- os.Interrupt
	}
	for _, sig := range endSignals {
		if !signal.Ignored(sig) { // nohup, say
			signal.Notify(s.ch, sig)
		}
	}
	return s
}

func (s *signals) stop() { signal.Stop(s.ch) }

// during gives a context that ends with the first signal. Its stop ends it at the latest, and says which signal it was, or nil; it
// must be called.
func (s *signals) during(parent context.Context) (until context.Context, stop func() os.Signal) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent)) // main's context ends with a signal that is in s.ch
	got := make(chan os.Signal, 1)
	go func() {
		defer close(got)
		select {
		case sig := <-s.ch:
			got <- sig
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() os.Signal {
		cancel()
		return <-got
	}
}

// child runs a command, again and again if need be.
type child struct {
	g     *globals
	path  string
	args  []string // with the name as it was given
	grace time.Duration
	log   *logrus.Logger
}

// newChild finds the command, so that no lock is taken for one that is not there.
func newChild(g *globals, args []string, grace time.Duration, log *logrus.Logger) (*child, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, cannotRun(err)
	}
	return &child{g, path, args, grace, log}, nil
}

// cannotRun is the error of a command that could not be started.
func cannotRun(err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return &exitError{exitNotFound, &codedError{"command_not_found", err}}
	}
	return &exitError{exitNotExecutable, &codedError{"command_not_executable", err}}
}

// ending is how a command ended.
type ending struct {
	code int       // its exit code, or 128 plus the signal that ended it
	lost bool      // what it ran under was lost before
	told os.Signal // the last signal that was passed on to it, or nil
}

// run starts the command, with more in its environment, and waits until it has ended. Signals are passed on. When lost is closed it is told to end,
// and killed if it has not after the grace.
func (c *child) run(signals *signals, lost <-chan struct{}, env ...string) (ending, error) {
	p, ended, err := c.start(env)
	if err != nil {
		return ending{}, cannotRun(err)
	}
	var end ending
	var kill <-chan time.Time
	for {
		select {
		case err := <-ended:
			if end.code, err = codeOf(p.cmd, err); err != nil {
				return end, ours(err)
			}
			p.waitForRest(kill)
			return end, nil
		case end.told = <-signals.ch:
			p.pass(end.told)
		case <-lost:
			lost, end.lost = nil, true
			c.log.WithField("grace", c.grace).Error("the lock is lost: the command is told to end")
			p.terminate()
			kill = time.After(c.grace)
		case <-kill:
			c.log.Error("the command has not ended: it is killed")
			p.kill()
			kill = nil
		}
	}
}

// start starts the command; what Wait says comes through the channel.
func (c *child) start(env []string) (*process, <-chan error, error) {
	cmd := exec.Command(c.path, c.args[1:]...) //nolint:gosec // what the user wants to run
	cmd.Args[0] = c.args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.g.in, c.g.out, c.g.errOut
	cmd.Env = append(os.Environ(), env...)
	p := newProcess(cmd)
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		// Linux tells the command of our death when the thread that started it is gone: so this one stays.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	return p, ended, <-started
}

// codeOf is the exit code of a command that has ended, as a shell would have it.
func codeOf(cmd *exec.Cmd, err error) (int, error) {
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("waiting for %s: %w", cmd.Path, err)
	}
	if sig := endedBy(cmd.ProcessState); sig != nil {
		return signalCode(sig), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}
