// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// Provider stands for a provider of card payments, which is somebody else's: real ones have these three requests, with
// idempotency keys, over HTTP.
type Provider struct {
	mu       sync.Mutex
	payments map[string]*charge
	limits   map[string]int64
}

type charge struct {
	card  string
	cents int64
	state string
}

const (
	held     = "held"
	captured = "captured"
	voided   = "voided"
)

// The errors of a Provider.
var (
	ErrDeclined = errors.New("declined")
	ErrLapsed   = errors.New("the authorisation has lapsed")
)

// Authorise holds money on a card. With a key that is known it does nothing but answer as before.
func (p *Provider) Authorise(_ context.Context, key, card string, cents int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.payments[key]; known != nil {
		if known.state == voided {
			return fmt.Errorf("%w: it was voided before", ErrDeclined)
		}
		return nil
	}
	free := p.limits[card]
	for _, c := range p.payments {
		if c.card == card && c.state != voided {
			free -= c.cents
		}
	}
	if cents > free {
		return fmt.Errorf("card %s: %w: %s wanted, %s free", card, ErrDeclined, euros(cents), euros(free))
	}
	p.payments[key] = &charge{card, cents, held}
	return nil
}

// Capture takes the money that was held.
func (p *Provider) Capture(_ context.Context, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.payments[key]
	if known == nil || known.state == voided {
		return fmt.Errorf("payment %s: %w", key, ErrLapsed)
	}
	known.state = captured
	return nil
}

// Void gives the money back that was held; of a key that is not known, it keeps that it was voided.
func (p *Provider) Void(_ context.Context, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.payments[key]; known == nil || known.state == held {
		p.payments[key] = &charge{state: voided}
	}
	return nil
}

// totals are what was taken from cards, and what is held on them.
func (p *Provider) totals() (taken, holds int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.payments {
		switch c.state {
		case captured:
			taken += c.cents
		case held:
			holds += c.cents
		}
	}
	return taken, holds
}

func euros(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
