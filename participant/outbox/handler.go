// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/participant/internal/journal"
)

// handler is the outbox as the participant's handler: what the journal has open, in memory.
type handler struct {
	name, prefix string
	nc           *nats.Conn
	journal      *journal.Journal
	streams      *streams
	publisher    *publisher // FinishBatch's alone

	mu sync.Mutex
	// open are the journal's entries. Invariant: none is here that is not there. An intent is changed by FinishBatch alone.
	open map[messages.ID]*intent
}

var (
	_ participant.BatchHandler = (*handler)(nil)
	_ participant.InDoubt      = (*handler)(nil)
	_ participant.Watermark    = (*handler)(nil)
)

// newHandler recalls what the journal has open.
func newHandler(o *Outbox, js jetstream.JetStream, j *journal.Journal) (*handler, error) {
	known := &streams{js: js, known: make(map[string]*stream)}
	h := &handler{
		name: o.cfg.Name, prefix: o.cfg.Prefix, nc: o.nc, journal: j, streams: known, open: make(map[messages.ID]*intent),
		publisher: &publisher{
			name: o.cfg.Name, nc: o.nc, js: js, streams: known, seekers: make(seekers), stats: o.stats, patience: patience,
			late: lateness{heard: make(map[string]time.Time), silent: make(map[string]bool)},
		},
	}
	for _, e := range j.Entries() {
		in, err := recall(e.Tx, e.Data)
		if err != nil {
			return nil, err
		}
		h.open[e.Tx] = in
	}
	return h, nil
}

// InDoubt implements participant.InDoubt.
func (h *handler) InDoubt(context.Context) ([]participant.Prepared, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var prepared []participant.Prepared
	for tx, in := range h.open {
		prepared = append(prepared, participant.Prepared{Tx: tx, Keys: in.keys})
	}
	return prepared, nil
}

// Watermark implements participant.Watermark.
func (h *handler) Watermark(ctx context.Context, stream string) (incarnation string, sequence uint64, err error) {
	return h.journal.Watermark(ctx, stream)
}

// SetWatermark implements participant.Watermark.
func (h *handler) SetWatermark(ctx context.Context, stream, incarnation string, sequence uint64) error {
	return h.journal.SetWatermark(ctx, stream, incarnation, sequence)
}

// find gives an intent that is open, or nil.
func (h *handler) find(tx messages.ID) *intent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open[tx]
}

// load gives an intent that is open, also when all that is known of it is in the journal, since an append that stored it was
// not seen to succeed; or nil.
func (h *handler) load(tx messages.ID) (*intent, error) {
	if in := h.find(tx); in != nil {
		return in, nil
	}
	e, ok := h.journal.Entry(tx)
	if !ok {
		return nil, nil
	}
	in, err := recall(e.Tx, e.Data)
	if err == nil {
		h.add([]*intent{in})
	}
	return in, err
}

// add notes intents that the journal has.
func (h *handler) add(intents []*intent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, in := range intents {
		h.open[in.tx] = in
	}
}

// drop forgets intents that the journal has settled.
func (h *handler) drop(outcomes []participant.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range outcomes {
		if in := h.open[o.Tx]; in != nil {
			delete(h.open, o.Tx)
			h.publisher.forget(in)
		}
	}
}

// wrap says whose error it is.
func (h *handler) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("outbox %s: %w", h.name, err)
}
