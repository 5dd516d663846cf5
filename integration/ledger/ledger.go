// SPDX-License-Identifier: Apache-2.0

// Package ledger is the durable store of the participants in the fault tests: a file to which every change is appended and
// synced before it counts. It is plain on purpose, for a test has to read it after any crash and trust what it reads.
package ledger

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Accounts is how many accounts a ledger has, and Opening what each has at first, in cents.
const (
	Accounts = 16
	Opening  = 10_000
)

// Move changes one account.
type Move struct {
	Account int   `json:"account"`
	Cents   int64 `json:"cents"`
}

// Record is a line of the file.
type Record struct {
	// Op is prepare, commit, rollback or mark.
	Op    string      `json:"op"`
	Tx    messages.ID `json:"tx,omitzero"`
	Moves []Move      `json:"moves,omitempty"`
	// Trouble is what the branch asked its participant to suffer.
	Trouble string `json:"trouble,omitempty"`
	// Keys are what the branch locks.
	Keys []participant.Key `json:"keys,omitempty"`
	// Stream, Incarnation and Sequence are a watermark.
	Stream      string `json:"stream,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
	Sequence    uint64 `json:"sequence,omitempty"`
}

// Status is where a transaction stands here.
type Status string

// The statuses; the zero Status is that of a transaction which never came.
const (
	Prepared   Status = "prepared"
	Committed  Status = "committed"
	RolledBack Status = "rolled back"
)

// State is what the records of a file add up to.
type State struct {
	Balances [Accounts]int64
	// Held is what prepared branches may take from each account.
	Held  [Accounts]int64
	Txs   map[messages.ID]Status
	Marks map[string]Record
	// Open are the prepare records of what is prepared.
	Open map[messages.ID]Record
}

// Total is all money in the ledger.
func (s *State) Total() (cents int64) {
	for _, balance := range s.Balances {
		cents += balance
	}
	return cents
}

func newState() *State {
	s := &State{Txs: make(map[messages.ID]Status), Marks: make(map[string]Record), Open: make(map[messages.ID]Record)}
	for i := range s.Balances {
		s.Balances[i] = Opening
	}
	return s
}

// Changes tells whether a record would change the state. What was finished stays as it is: an outcome that comes again,
// or for a transaction that was never prepared here, changes no money.
func (s *State) Changes(r *Record) bool {
	status := s.Txs[r.Tx]
	switch r.Op {
	case "prepare":
		return status == ""
	case "commit":
		return status == Prepared
	case "rollback":
		return status == Prepared || status == ""
	default:
		return true
	}
}

func (s *State) apply(r *Record) error {
	if !s.Changes(r) {
		return fmt.Errorf("ledger: %s of %s, which is %q", r.Op, r.Tx, s.Txs[r.Tx])
	}
	switch r.Op {
	case "prepare":
		s.Txs[r.Tx], s.Open[r.Tx] = Prepared, *r
		s.hold(r.Moves, 1)
	case "commit":
		for _, m := range s.Open[r.Tx].Moves {
			s.Balances[m.Account] += m.Cents
		}
		s.end(r.Tx, Committed)
	case "rollback":
		s.end(r.Tx, RolledBack)
	case "mark":
		s.Marks[r.Stream] = *r
	default:
		return fmt.Errorf("ledger: unknown record %q", r.Op)
	}
	return nil
}

func (s *State) end(tx messages.ID, status Status) {
	s.hold(s.Open[tx].Moves, -1)
	delete(s.Open, tx)
	s.Txs[tx] = status
}

func (s *State) hold(moves []Move, sign int64) {
	for _, m := range moves {
		if m.Cents < 0 {
			s.Held[m.Account] -= sign * m.Cents
		}
	}
}

// Read reads a file that another process may be writing. A last line that is not whole was never acknowledged.
func Read(path string) (*State, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newState(), nil
	}
	if err != nil {
		return nil, err
	}
	s, _, err := replay(data)
	return s, err
}

func replay(data []byte) (s *State, whole int64, err error) {
	s = newState()
	lines := bufio.NewReader(bytes.NewReader(data))
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return s, whole, nil
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, whole, fmt.Errorf("ledger: offset %d: %w", whole, err)
		}
		if err := s.apply(&r); err != nil {
			return nil, whole, err
		}
		whole += int64(len(line))
	}
}

// Ledger is an open file. Its methods may be called by many goroutines at once.
type Ledger struct {
	mu    sync.Mutex
	file  *os.File
	state *State
}

// Open opens or creates a file.
func Open(path string) (*Ledger, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	state, whole, err := replay(data)
	if err != nil {
		return nil, err
	}
	if err := file.Truncate(whole); err != nil {
		return nil, err
	}
	_, err = file.Seek(whole, io.SeekStart)
	return &Ledger{file: file, state: state}, err
}

// With runs f on the state, and makes the records that it gives durable with one sync.
func (l *Ledger) With(f func(*State) []Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	records := f(l.state)
	var lines []byte
	for i := range records {
		if !l.state.Changes(&records[i]) {
			continue
		}
		line, err := json.Marshal(&records[i])
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	if len(lines) == 0 {
		return nil
	}
	if _, err := l.file.Write(lines); err != nil {
		return err
	}
	if err := l.file.Sync(); err != nil {
		return err
	}
	for i := range records {
		if l.state.Changes(&records[i]) {
			if err := l.state.apply(&records[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
