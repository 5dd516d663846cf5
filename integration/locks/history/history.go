// SPDX-License-Identifier: Apache-2.0

// Package history is how the clients of the lock tests write down what they did, and how the tests read it.
//
// A history is a file with one JSON object a line. Each line is written to the kernel before the client goes on, so that what a
// killed process has done up to its end is there.
package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind is what a line says.
type Kind string

// The kinds. Everything but Use comes twice, as a call without and a return with a Result.
const (
	// Lock asks for a key, and waits for it.
	Lock Kind = "lock"
	// Try asks for a key, and does not wait.
	Try Kind = "try"
	// Unlock gives back what the operation Of got.
	Unlock Kind = "unlock"
	// Write writes to the resource that the key protects, with the token that the operation Of got.
	Write Kind = "write"
	// Use is a moment at which the client knew that it held what the operation Of got: it read the clock, and then asked the lock.
	Use Kind = "use"
)

// Result is what came of an operation.
type Result string

// The results. An operation without one is open: its process ended, or is stopped.
const (
	Held     Result = "held"     // of Lock and Try
	NotHeld  Result = "not held" // of Lock and Try: it waited as long as it wanted; of Unlock: it was given back before
	Refused  Result = "refused"  // of Try: somebody holds it or waits for it; of Write: the token is too old
	Released Result = "released" // of Unlock
	Lost     Result = "lost"     // of each but Write: the session is; what waited for it may be in the queue until somebody ends it
	Accepted Result = "accepted" // of Write
	Unknown  Result = "unknown"  // of each
)

// Line is one line of a history.
type Line struct {
	// At is the time in nanoseconds on CLOCK_MONOTONIC, which all processes of a machine share.
	At int64 `json:"at"`
	// Op is the operation's number in its process, from 1. A Use has none.
	Op     uint64 `json:"op,omitempty"`
	Kind   Kind   `json:"kind"`
	Key    string `json:"key,omitempty"`
	Shared bool   `json:"shared,omitempty"`
	// Of is the number of the Lock or Try that an Unlock, Write or Use belongs to.
	Of     uint64 `json:"of,omitempty"`
	Result Result `json:"result,omitempty"`
	Token  string `json:"token,omitempty"` // as locks.Token.String
	// Why is the error's text, for people.
	Why string `json:"why,omitempty"`
}

// Now is the time of Line.At.
func Now() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // there is no machine without this clock
	}
	return now.Nano()
}

// Writer writes a history. Its methods may be called concurrently.
type Writer struct {
	mu   sync.Mutex
	file *os.File
	last uint64
}

// Create makes a new file.
func Create(name string) (*Writer, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Writer{file: file}, nil
}

// Call notes the call of an operation, whose number it returns. It is to be called right before.
func (w *Writer) Call(line Line) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	line.Op, line.At = w.last, Now()
	w.write(line)
	return line.Op
}

// Return notes the return of an operation. The time is when the operation returned: read it with Now first.
func (w *Writer) Return(at int64, op uint64, kind Kind, result Result, token string, why error) {
	line := Line{At: at, Op: op, Kind: kind, Result: result, Token: token}
	if why != nil {
		line.Why = why.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(line)
}

// Use notes that what the operation got was held at a time, which was read before the lock was asked.
func (w *Writer) Use(at int64, of uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write(Line{At: at, Kind: Use, Of: of})
}

// write does not return before the line is the kernel's. A client that cannot write its history must not go on.
func (w *Writer) write(line Line) {
	data, err := json.Marshal(line)
	if err == nil {
		_, err = w.file.Write(append(data, '\n'))
	}
	if err != nil {
		panic(fmt.Sprintf("the history: %v", err))
	}
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

// Read gives the lines of a file. What a process that was killed has left half written at the end is left out.
func Read(name string) (lines []Line, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for {
		one, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return lines, nil
		}
		var line Line
		if err := json.Unmarshal(one, &line); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, len(lines)+1, err)
		}
		lines, data = append(lines, line), rest
	}
}
