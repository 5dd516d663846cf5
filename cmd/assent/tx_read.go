// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/messages"
)

// maxInput bounds what is read, in bytes: white space does not count towards the limit of a transaction, but is no reason
// to read for ever.
const maxInput = 16 << 20

// readTransaction reads the transaction of `tx run` from a file, or from standard input for "-", and checks all that can be
// checked here.
func (g *globals) readTransaction(name string) (*messages.Submission, error) {
	input := g.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usageError(err)
		}
		defer file.Close() //nolint:errcheck // only read
		input = file
	}
	data, err := io.ReadAll(io.LimitReader(input, maxInput+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the transaction: %w", err)
	case len(data) > maxInput:
		return nil, usageError(&assent.TooLargeError{Message: fmt.Sprintf("more than %d bytes of input; a transaction has at most %d", maxInput, messages.MaxRecord)})
	}
	sub, minted, err := parseTransaction(data)
	if err != nil {
		return nil, usageError(err)
	}
	if minted {
		fmt.Fprintln(g.errOut, "transaction", sub.Tx)
	}
	return sub, nil
}

// parseTransaction reads one transaction, written as people write JSON: with newlines, and perhaps without an id, which is then
// minted. The rest is what the protocol's own decoder takes.
func parseTransaction(data []byte) (sub *messages.Submission, minted bool, err error) {
	if !utf8.Valid(data) {
		return nil, false, &assent.InvalidError{Field: "input", Message: fmt.Sprintf("not valid UTF-8 at byte %d", firstInvalid(data))}
	}
	record, err := oneObject(data)
	if err != nil {
		return nil, false, &assent.InvalidError{Field: "input", Message: err.Error()}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(record, &fields); err != nil {
		return nil, false, &assent.InvalidError{Field: "input", Message: err.Error()}
	}
	if _, ok := fields["tx"]; !ok {
		record, minted = insertID(record, len(fields)), true
	}
	record, locks, err := takeLocks(record)
	if err != nil {
		return nil, false, err
	}
	record, routes, err := takeRoutes(record)
	if err != nil {
		return nil, false, err
	}
	sub = new(messages.Submission)
	if err := new(messages.Decoder).Submission(record, sub); err != nil {
		return nil, false, inputError(sub.Tx, minted, err)
	}
	sub.Locks = locks
	for i := range sub.Operations {
		if op := &sub.Operations[i]; routes[i] != nil {
			op.Participant, op.Route = "", routes[i]
		}
	}
	return sub, minted, nil
}

// oneObject is the one JSON object that data has, on one line.
func oneObject(data []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	var value json.RawMessage
	if err := decoder.Decode(&value); err != nil {
		return nil, explainSyntax(data, err)
	}
	if value[0] != '{' {
		return nil, errors.New(`not a JSON object: want {"operations":[…]}`)
	}
	rest := bytes.TrimLeft(data[decoder.InputOffset():], " \t\r\n")
	if len(rest) > 0 && rest[0] == '{' {
		return nil, errors.New("more than one transaction: give one, and run the command once for each")
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("bytes after the transaction, at %s", position(data, len(data)-len(rest)))
	}
	var line bytes.Buffer
	err := json.Compact(&line, value)
	return line.Bytes(), err
}

func explainSyntax(data []byte, err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("empty: want a transaction as JSON")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("not JSON: it ends in the middle")
	case errors.As(err, &syntax):
		return fmt.Errorf("not JSON: %w, at %s", err, position(data, max(int(syntax.Offset)-1, 0)))
	default:
		return fmt.Errorf("not JSON: %w", err)
	}
}

// position is an offset as people count.
func position(data []byte, offset int) string {
	before := data[:min(offset, len(data))]
	line := bytes.Count(before, []byte("\n"))
	column := len(before) - 1 - bytes.LastIndexByte(before, '\n')
	return fmt.Sprintf("line %d, column %d", line+1, column+1)
}

func firstInvalid(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(data)
}

// insertID puts a new id first into an object that has none.
func insertID(object []byte, fields int) []byte {
	head := fmt.Sprintf(`{"tx":"%s"`, messages.NewID())
	if fields > 0 {
		head += ","
	}
	return append([]byte(head), object[1:]...)
}

// inputError is the decoder's error as an application is told it.
func inputError(id assent.ID, minted bool, err error) error {
	if minted {
		id = assent.ID{}
	}
	var fault *messages.FieldError
	if !errors.As(err, &fault) {
		return err
	}
	if errors.Is(err, messages.ErrTooLarge) {
		return &assent.TooLargeError{Tx: id, Message: fmt.Sprintf("the transaction has %s", fault.Problem)}
	}
	return &assent.InvalidError{Tx: id, Field: fault.Field, Message: fault.Problem}
}
