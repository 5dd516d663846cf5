// SPDX-License-Identifier: Apache-2.0

// Package panics makes errors of the panics of an application's code (handlers, hooks), which must not end the process that
// calls it, and keeps where they happened: without that nobody finds them.
package panics

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/sirupsen/logrus"
)

// Error is a panic. Its text goes to whoever asked, its stack to the log alone.
type Error struct {
	// What panicked, and Reason is the panic's value.
	What   string
	Reason any
	// Stack is the goroutine's, from where it panicked.
	Stack string
}

// Recovered makes an error of what recover gave. It is to be called by the deferred function that has recovered.
func Recovered(what string, reason any) *Error {
	return &Error{What: what, Reason: reason, Stack: string(debug.Stack())}
}

// Error names what panicked, and the panic's value.
func (e *Error) Error() string { return fmt.Sprintf("%s panicked: %v", e.What, e.Reason) }

// Log has an entry tell of an error, and of the stack if it is a panic.
func Log(log *logrus.Entry, err error) *logrus.Entry {
	log = log.WithError(err)
	if panicked := (*Error)(nil); errors.As(err, &panicked) {
		log = log.WithField("stack", panicked.Stack)
	}
	return log
}
