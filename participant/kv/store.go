// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// store is the participant's handler. What it holds prepared is in its journal, and nowhere else.
type store struct {
	*journal.Journal // and with it participant.Watermark

	nc      *nats.Conn
	js      jetstream.JetStream
	log     *logrus.Entry
	buckets buckets
	counts  *counts
	// busy bounds the requests under way for branches with many keys.
	busy     chan struct{}
	requests *requests
}

// counts are what Stats tells beside the journal's.
type counts struct {
	prepared, conflicts, applied, overtaken, failed atomic.Uint64
}

// maxBusy is how many requests are under way for the keys of one call and of all calls together, at the most.
const maxBusy = 1024

// prepared is what the journal has of a branch.
type prepared struct {
	Keys   []participant.Key `json:"keys,omitempty"`
	Writes []write           `json:"writes,omitempty"`
}

// write is what a commit does to a key: it puts a value in the place of a revision.
type write struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Base is the key's revision when the branch was prepared; 0: it had none.
	Base   uint64 `json:"base"`
	Value  []byte `json:"value,omitempty"`
	Delete bool   `json:"delete,omitempty"`
}

func (w *write) ref() ref { return ref{w.Bucket, w.Key} }

// InDoubt implements participant.InDoubt.
func (s *store) InDoubt(context.Context) ([]participant.Prepared, error) {
	entries := s.Entries()
	all := make([]participant.Prepared, len(entries))
	for i, e := range entries {
		b, err := decode(e)
		if err != nil {
			return nil, err
		}
		all[i] = participant.Prepared{Tx: e.Tx, Keys: b.Keys}
	}
	return all, nil
}

// decode gives what an entry says: as this instance has prepared it, or of what another one has written.
func decode(e journal.Entry) (*prepared, error) {
	if b, ok := e.Note.(*prepared); ok {
		return b, nil
	}
	b := &prepared{}
	if err := json.Unmarshal(e.Data, b); err != nil {
		return nil, fmt.Errorf("kv: the journal's entry of %s: %w", e.Tx, err)
	}
	return b, nil
}

// Rollback implements participant.Handler. Nothing was written, so there is nothing to undo but the journal's entry.
func (s *store) Rollback(ctx context.Context, tx messages.ID) error {
	return s.Settle(ctx, participant.Outcome{Tx: tx})
}

// each does something for n keys at once and gives the first error.
func (s *store) each(n int, do func(i int) error) error {
	switch n {
	case 0:
		return nil
	case 1:
		return do(0)
	}
	errs := make(chan error, n)
	for i := 1; i < n; i++ {
		s.busy <- struct{}{}
		go func() {
			err := do(i)
			<-s.busy // before the call ends: what it took is free again then
			errs <- err
		}()
	}
	err := do(0)
	for i := 1; i < n; i++ {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}
