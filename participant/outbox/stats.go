// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// stats counts what operators want to know.
type stats struct {
	log *logrus.Entry

	mu    sync.Mutex
	stuck map[messages.ID]struct{}
	count Stats
}

func newStats(cfg *Config) *stats {
	return &stats{log: cfg.Log.WithField("participant", cfg.Name), stuck: make(map[messages.ID]struct{})}
}

// begin forgets what was stuck when this instance worked before: another one may have published it.
func (s *stats) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.stuck)
}

func (s *stats) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.count
	now.Stuck = len(s.stuck)
	return now
}

// published notes that so many messages of a transaction were published by an attempt, and whether that was all, or why not.
func (s *stats) published(tx messages.ID, n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count.Published += uint64(n)
	if err != nil {
		s.stuck[tx] = struct{}{}
	} else {
		delete(s.stuck, tx)
	}
}

// unsure notes that what is published now may have been published before.
func (s *stats) unsure(tx messages.ID) {
	s.mu.Lock()
	s.count.Unsure++
	s.mu.Unlock()
	s.log.WithField("tx", tx).Warn("a message is published that may have been before: its stream has removed messages of that time, so it cannot be looked for; " +
		"a longer duplicate window makes this rarer")
}
