// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/router"
)

// The exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitAborted = 3
	exitUnknown = 4
)

// exitError ends the program with a code. A nil err is one that has been told already, in the command's own output.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usageError(err error) error { return &exitError{exitUsage, err} }

func usagef(format string, args ...any) error { return usageError(fmt.Errorf(format, args...)) }

// errorReport is how an error is told with --json, as the field "error" of an object.
type errorReport struct {
	// Code is for programs; see errorCode.
	Code string `json:"code"`
	// Field is the path of the field that is wrong, when one is.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

func reportOf(err error) *errorReport {
	r := &errorReport{Code: errorCode(err), Message: err.Error()}
	var invalid *assent.InvalidError
	if errors.As(err, &invalid) {
		r.Field = invalid.Field
	}
	return r
}

// codeInterrupted is the errorCode of what a signal ended before it was done, when nothing more can be said.
const codeInterrupted = "interrupted"

// errorCode is an error in one word.
func errorCode(err error) string {
	var coded interface{ errorCode() string }
	if errors.As(err, &coded) {
		return coded.errorCode()
	}
	for _, known := range []struct {
		err  error
		code string
	}{
		{assent.ErrUnknown, "unknown"}, // before its causes
		{assent.ErrConflict, "conflict"},
		{assent.ErrAborted, "aborted"},
		{assent.ErrInvalid, "invalid"},
		{assent.ErrTooLarge, "too_large"},
		{assent.ErrUnknownParticipant, "unknown_participant"},
		{assent.ErrOverloaded, "overloaded"},
		{router.ErrNoGroup, "no_group"}, // of ErrUnroutable, as the routing service says it
		{router.ErrNoNodes, "no_nodes"},
		{assent.ErrUnroutable, "unroutable"},
		{assent.ErrNoCoordinator, "no_coordinator"},
		{assent.ErrNotFound, "not_found"},
	} {
		if errors.Is(err, known.err) {
			return known.code
		}
	}
	if errors.As(err, new(signalled)) {
		return codeInterrupted
	}
	if exitCode(err) == exitUsage {
		return "usage"
	}
	return "failed"
}

func exitCode(err error) int {
	var (
		exit *exitError
		end  signalled
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &end) && errorCode(err) == codeInterrupted:
		return signalCode(end.signal)
	default:
		return exitFailure
	}
}

// report tells an error, unless the command has done so, and gives the exit code.
func (g *globals) report(err error) int {
	code := exitCode(err)
	var exit *exitError
	switch {
	case err == nil, errors.As(err, &exit) && exit.err == nil:
	case g.JSON:
		if g.printJSON(map[string]any{"error": reportOf(err)}) != nil {
			g.complain(err) // standard output is gone
		}
	default:
		g.complain(err)
		if errorCode(err) == "usage" {
			fmt.Fprintln(g.errOut, "See assent --help, or --help of the command.")
		}
	}
	return code
}

// complain tells an error on standard error. Those of package assent have the name in front already.
func (g *globals) complain(err error) {
	fmt.Fprintln(g.errOut, "assent:", plain(strings.TrimPrefix(err.Error(), "assent: ")))
}

// printJSON prints a command's one JSON object.
func (g *globals) printJSON(v any) error {
	encoder := json.NewEncoder(g.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}
