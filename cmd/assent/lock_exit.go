// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// The exit codes of `assent lock` and `assent elect`, whose others are those of the command that they run. 124 to 127 and 128 plus a signal
// are as timeout(1), env(1) and shells have them.
const (
	exitLost          = 123
	exitNotAcquired   = 124
	exitOurs          = 125
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128
)

const lockCodes = `Exit codes: COMMAND's own, 128+N when signal N ended it. Otherwise COMMAND was not run to its end: 123 the lock was lost,
124 it was not acquired (--try, --wait), 125 assent failed, 126 COMMAND cannot be executed, 127 it was not found, 2 wrong usage;
128+N: signal N came before the lock was held.`

// ours has a failure of assent's own end with exit code 125, unless it has a code already.
func ours(err error) error {
	if err == nil || exitCode(err) != exitFailure {
		return err
	}
	return &exitError{exitOurs, err}
}

// explainLock gives an error of package locks its code, and says what to do about it.
func explainLock(err error) error {
	switch {
	case errors.Is(err, locks.ErrInvalid):
		return usageError(&codedError{"invalid", err})
	case errors.Is(err, locks.ErrHeld):
		return &exitError{exitNotAcquired, &codedError{"held", err}}
	case errors.Is(err, locks.ErrConflict):
		return &codedError{"conflict", err}
	case errors.Is(err, locks.ErrLost):
		return &codedError{"lost", err}
	case errors.Is(err, locks.ErrRecord):
		return &codedError{"record", fmt.Errorf("%w: assent lock release --force makes the key free", err)}
	case errors.Is(err, locks.ErrSettings):
		return &codedError{"stream_settings", err}
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return &codedError{"no_jetstream", fmt.Errorf("JetStream does not answer: enable it in the server's configuration, and for the account: %w", err)}
	default:
		return err
	}
}

// signalCode is the exit code of a process that a signal has ended.
func signalCode(signal os.Signal) int {
	if number, ok := signal.(syscall.Signal); ok {
		return exitSignal + int(number)
	}
	return exitOurs
}
