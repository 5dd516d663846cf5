// SPDX-License-Identifier: Apache-2.0

package participant_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// memory is a handler that is asked what it remembers.
type memory struct {
	*handler
	asked []messages.ID // by the start that is under way
	knows bool
	err   error
}

func (m *memory) Remembers(_ context.Context, tx messages.ID) (bool, error) {
	m.asked = append(m.asked, tx)
	return m.knows, m.err
}

// At its start a participant asks its store for the newest transaction that it voted yes for and that was committed, however long ago
// that is, and says loudly if the store does not have it.
func TestStoreLost(t *testing.T) {
	inBubble(t, func(w *world) {
		w.coordinate(coordinator.Config{})
		m := &memory{handler: newHandler(), knows: true}
		log, said := logtest.NewNullLogger()
		cfg := participant.Config{Name: "p", Handler: m, Log: log}
		restart := func(r *running, want ...messages.ID) *running {
			w.Helper()
			r.end()
			m.asked = nil
			said.Reset()
			r = w.joinWith(cfg)
			if !slices.Equal(m.asked, want) {
				w.Errorf("asked for %v, want %v", m.asked, want)
			}
			return r
		}
		other := newHandler()
		w.join("q", other)
		r := w.joinWith(cfg)
		if len(m.asked) > 0 {
			w.Errorf("asked for %v before any vote", m.asked)
		}
		c := w.client()
		tx, err := commit(w, c, time.Minute, "p", "q")
		must(w, err)
		r = restart(r, tx)
		r = restart(r, tx)          // the coordinator has it in mind
		time.Sleep(4 * time.Minute) //nolint:forbidigo // in a bubble
		r = restart(r, tx)          // and now it is in the log's history only
		if lost(said) != nil {
			w.Errorf("logged %v", lost(said).Message)
		}
		m.knows = false
		r = restart(r, tx)
		if entry := lost(said); entry == nil || entry.Level != logrus.ErrorLevel || entry.Data["tx"] != tx.String() {
			w.Errorf("logged %v", entry)
		}
		m.knows = true

		votes, err := w.nc.SubscribeSync(messages.Subjects{}.Vote(0, "p"))
		must(w, err)
		must(w, w.nc.Flush())
		// One that heard of the rollback first would not vote.
		other.prepare = func(ctx context.Context, _ *participant.Branch) (participant.Vote, error) {
			if _, err := votes.NextMsgWithContext(ctx); err != nil {
				w.Errorf("p's vote: %v", err)
			}
			return 0, participant.Refuse(errors.New("no"))
		}
		if _, err := commit(w, c, time.Minute, "p", "q"); err == nil {
			w.Error("it was refused, and committed")
		}
		r = restart(r) // of what was committed before the newest vote nothing is asked
		other.prepare = nil
		tx, err = commit(w, c, time.Minute, "p", "q")
		must(w, err)
		r = restart(r, tx)

		r.end()
		m.err = errors.New("the database is away")
		_, failing := w.start(w.connect(), cfg)
		if err := failing.wait(); !errors.Is(err, m.err) {
			w.Errorf("Run: %v", err)
		}
	})
}

// lost is what was logged of a store that has lost data.
func lost(said *logtest.Hook) *logrus.Entry {
	for _, entry := range said.AllEntries() {
		if err, ok := entry.Data[logrus.ErrorKey].(error); ok && errors.Is(err, participant.ErrStoreLost) {
			return entry
		}
	}
	return nil
}
