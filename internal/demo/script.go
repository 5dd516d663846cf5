// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
)

// script is what happens while the load is under way, one thing after the other: at parts of the load's way, never at times.
type script struct {
	acts   []act
	events chan string
	// open: the load goes on until the last act is over, and as long after it as before the first one. Otherwise there is a number
	// of transfers, and they do not run past an act, so that some are under way whenever one comes.
	open bool
}

// act is one thing that happens.
type act interface {
	// happen makes it so, and says what was done. It returns when the cluster has taken it.
	happen(ctx context.Context) (said string, err error)
}

func newScript(open bool, acts ...act) *script {
	return &script{acts: acts, open: open, events: make(chan string, 16)}
}

// most is how many transfers there can be.
func (s *script) most(cfg *Config) int {
	if s.open {
		return MaxTransfers
	}
	return cfg.Transfers
}

// play lets the load run and everything happen.
func (s *script) play(ctx context.Context, p *pace, cfg *Config) error {
	if s.open {
		return s.improvise(ctx, p, cfg.Transfers)
	}
	defer p.finish(cfg.Transfers)
	for i, next := range s.acts {
		due := cfg.Transfers * s.percent(i) / 100
		p.allow(min(due+cfg.Transfers/8, cfg.Transfers))
		if !p.until(due) {
			return nil
		}
		if err := s.perform(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// percent of the load has ended when an act comes.
func (s *script) percent(i int) int { return 100 * (i + 1) / (len(s.acts) + 1) }

// improvise plays an open script: the acts divide at least so many transfers in equal parts.
func (s *script) improvise(ctx context.Context, p *pace, transfers int) error {
	defer p.finish(0)
	part := transfers / (len(s.acts) + 1)
	p.allow(MaxTransfers)
	for _, next := range s.acts {
		_, ended := p.now()
		if !p.until(ended + part) {
			return nil
		}
		if err := s.perform(ctx, next); err != nil {
			return err
		}
	}
	_, ended := p.now()
	p.until(ended + part)
	return nil
}

func (s *script) perform(ctx context.Context, next act) error {
	said, err := next.happen(ctx)
	if err == nil && said != "" {
		s.events <- said
	}
	return err
}
