// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assent-tx/assent/integration/ledger"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// bank keeps accounts in a ledger. A branch can ask it to misbehave.
type bank struct {
	name  string
	store *ledger.Ledger

	mu       sync.Mutex
	attempts map[string]int // by transaction and call, for the troubles that pass
}

// operation is a payload. Trouble is a space-separated list of call=what: prepare=refuse, prepare=panic:2 (the first two
// times), commit=error:5, rollback=slow:300ms, …
type operation struct {
	ledger.Move
	Trouble string `json:"trouble,omitempty"`
}

var (
	errOverdrawn = errors.New("the account is overdrawn")
	errGone      = errors.New("the transaction was rolled back here")
)

func (b *bank) Prepare(ctx context.Context, branch *participant.Branch) (participant.Vote, error) {
	record, err := decode(branch)
	if err != nil {
		return 0, err
	}
	if err := b.suffer(ctx, branch.Tx, "prepare", record.Trouble); err != nil {
		return 0, err
	}
	return b.prepare(record)
}

func decode(branch *participant.Branch) (*ledger.Record, error) {
	record := &ledger.Record{Op: "prepare", Tx: branch.Tx, Keys: branch.Keys()}
	for i := range branch.Operations {
		var op operation
		if err := json.Unmarshal(branch.Operations[i].Payload, &op); err != nil {
			return nil, participant.Refuse(err)
		}
		if op.Account < 0 || op.Account >= ledger.Accounts {
			return nil, participant.Refuse(fmt.Errorf("no account %d", op.Account))
		}
		record.Moves = append(record.Moves, op.Move)
		record.Trouble = op.Trouble
	}
	return record, nil
}

func (b *bank) prepare(record *ledger.Record) (vote participant.Vote, refusal error) {
	err := b.store.With(func(s *ledger.State) []ledger.Record {
		vote, refusal = judge(s, record)
		if vote != participant.Yes {
			return nil
		}
		return []ledger.Record{*record}
	})
	if err != nil {
		return 0, err
	}
	return vote, refusal
}

// judge says how the bank votes. A transaction that was here before gets the same answer.
func judge(s *ledger.State, record *ledger.Record) (participant.Vote, error) {
	switch s.Txs[record.Tx] {
	case ledger.Prepared, ledger.Committed:
		return participant.Yes, nil
	case ledger.RolledBack:
		return 0, participant.Refuse(errGone)
	}
	for _, m := range record.Moves {
		if m.Cents < 0 && s.Balances[m.Account]-s.Held[m.Account]+m.Cents < 0 {
			return 0, participant.Refuse(errOverdrawn)
		}
	}
	return participant.Yes, nil
}

func (b *bank) Commit(ctx context.Context, tx messages.ID) error { return b.end(ctx, tx, "commit") }
func (b *bank) Rollback(ctx context.Context, tx messages.ID) error {
	return b.end(ctx, tx, "rollback")
}

func (b *bank) end(ctx context.Context, tx messages.ID, op string) error {
	var trouble string
	if err := b.store.With(func(s *ledger.State) []ledger.Record {
		trouble = s.Open[tx].Trouble
		return nil
	}); err != nil {
		return err
	}
	if err := b.suffer(ctx, tx, op, trouble); err != nil {
		return err
	}
	return b.store.With(func(*ledger.State) []ledger.Record { return []ledger.Record{{Op: op, Tx: tx}} })
}

// suffer does what a branch asked for.
func (b *bank) suffer(ctx context.Context, tx messages.ID, call, troubles string) error {
	for trouble := range strings.FieldsSeq(troubles) {
		at, what, _ := strings.Cut(trouble, "=")
		if at != call {
			continue
		}
		what, argument, _ := strings.Cut(what, ":")
		if what == "slow" {
			pause, err := time.ParseDuration(argument)
			if err != nil {
				return participant.Refuse(err)
			}
			time.Sleep(pause) //nolint:forbidigo // a handler that does not look at its context
			continue
		}
		if times, err := strconv.Atoi(argument); err == nil && b.attempt(tx, call) > times {
			continue
		}
		switch what {
		case "refuse":
			return participant.Refuse(errors.New("told to refuse"))
		case "panic":
			panic("told to panic")
		case "hang":
			<-ctx.Done()
			return ctx.Err()
		default:
			return errors.New("told to fail")
		}
	}
	return nil
}

func (b *bank) attempt(tx messages.ID, call string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := call + tx.String()
	b.attempts[key]++
	return b.attempts[key]
}

// InDoubt implements participant.InDoubt.
func (b *bank) InDoubt(context.Context) (branches []participant.Prepared, err error) {
	err = b.store.With(func(s *ledger.State) []ledger.Record {
		for tx, record := range s.Open {
			branches = append(branches, participant.Prepared{Tx: tx, Keys: record.Keys})
		}
		return nil
	})
	return branches, err
}

// Watermark implements participant.Watermark.
func (b *bank) Watermark(_ context.Context, stream string) (incarnation string, sequence uint64, err error) {
	err = b.store.With(func(s *ledger.State) []ledger.Record {
		incarnation, sequence = s.Marks[stream].Incarnation, s.Marks[stream].Sequence
		return nil
	})
	return incarnation, sequence, err
}

// SetWatermark implements participant.Watermark.
func (b *bank) SetWatermark(_ context.Context, stream, incarnation string, sequence uint64) error {
	return b.store.With(func(*ledger.State) []ledger.Record {
		return []ledger.Record{{Op: "mark", Stream: stream, Incarnation: incarnation, Sequence: sequence}}
	})
}

// batchBank is the same with one sync for a whole batch.
type batchBank struct{ *bank }

func (b batchBank) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	results := make([]participant.Result, len(branches))
	err := b.store.With(func(s *ledger.State) (records []ledger.Record) {
		for i, branch := range branches {
			record, err := decode(branch)
			if err == nil {
				results[i].Vote, err = judge(s, record)
			}
			if results[i].Err = err; err == nil && s.Changes(record) {
				records = append(records, *record)
				// What the batch itself holds counts for those behind.
				for _, m := range record.Moves {
					if m.Cents < 0 {
						s.Held[m.Account] -= m.Cents
						defer func() { s.Held[m.Account] += m.Cents }()
					}
				}
			}
		}
		return records
	})
	if err != nil {
		for i := range results {
			results[i] = participant.Result{Err: err}
		}
	}
	return results
}

func (b batchBank) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	errs := make([]error, len(outcomes))
	err := b.store.With(func(*ledger.State) (records []ledger.Record) {
		for _, o := range outcomes {
			op := "rollback"
			if o.Commit {
				op = "commit"
			}
			records = append(records, ledger.Record{Op: op, Tx: o.Tx})
		}
		return records
	})
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// noop says yes to everything.
type noop struct{}

// InDoubt: it holds nothing.
func (noop) InDoubt(context.Context) ([]participant.Prepared, error) { return nil, nil }

func (noop) PrepareBatch(_ context.Context, branches []*participant.Branch) []participant.Result {
	results := make([]participant.Result, len(branches))
	for i := range results {
		results[i].Vote = participant.Yes
	}
	return results
}

func (noop) FinishBatch(_ context.Context, outcomes []participant.Outcome) []error {
	return make([]error, len(outcomes))
}
