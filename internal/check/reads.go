// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/check/store"
)

// ear hears what the stores read for transactions that wait for it.
type ear struct {
	subject string
	fail    func(error)

	mu    sync.Mutex
	waits map[string]*hearing
}

// hearing is what is heard of one transaction.
type hearing struct {
	missing int
	reads   map[int]store.Read
	all     chan struct{} // closed when nothing is missing
}

func listen(nc *nats.Conn, fail func(error)) (*ear, error) {
	e := &ear{subject: nc.NewInbox(), fail: fail, waits: make(map[string]*hearing)}
	_, err := nc.Subscribe(e.subject, func(msg *nats.Msg) { e.hear(msg.Data) }) // the connection ends it
	return e, err
}

// expect says that a transaction will read so much.
func (e *ear) expect(tx string, reads int) *hearing {
	h := &hearing{missing: reads, reads: make(map[int]store.Read, reads), all: make(chan struct{})}
	if reads == 0 {
		close(h.all)
		return h
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waits[tx] = h
	return h
}

// done gives what was heard; what comes later is of no interest.
func (e *ear) done(tx string, h *hearing) map[int]store.Read {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waits, tx)
	return h.reads
}

func (e *ear) hear(data []byte) {
	var report store.Report
	if err := json.Unmarshal(data, &report); err != nil {
		e.fail(fmt.Errorf("a store told what is not a report: %w", err))
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.waits[report.Tx]
	if h == nil {
		return // told again, and heard already
	}
	for _, read := range report.Reads {
		before, known := h.reads[read.Number]
		if known && (before.Balance != read.Balance || !slices.Equal(before.Values, read.Values)) {
			e.fail(fmt.Errorf("transaction %s: operation %d has read two values: %v, and %v", report.Tx, read.Number, before, read))
		}
		if h.reads[read.Number] = read; !known {
			if h.missing--; h.missing == 0 {
				close(h.all)
			}
		}
	}
}
