// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Payment is an operation's payload for the service payments.
type Payment struct {
	Card  string `json:"card"`
	Cents int64  `json:"cents"`
}

// payments is a service without a store: everything that it must not forget is at the provider of card payments, under the
// transaction's id as the idempotency key. That is enough for what a participant promises:
//
//   - Prepare authorises. The provider holds the money, durably, before this service votes; it can capture or void it.
//   - Commit captures, Rollback voids. Both can be asked for again, and find what was done: the provider knows the key.
//   - After a crash nothing has to be recalled here. The coordinator sends each outcome until it is done, and a prepare
//     that was not voted on comes again, and finds the same authorisation.
//   - A void of a key that the provider does not know is kept there, so that an authorisation which comes later is refused.
//
// What it cannot promise is what the provider does not: when an authorisation lapses before the outcome comes (a week,
// usually), the capture fails after the yes. That is reported as heuristic, for people to look at.
type payments struct{ provider *Provider }

// Prepare implements participant.Handler.
func (p *payments) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	if len(b.Operations) != 1 {
		return 0, participant.Refuse(errors.New("one payment a transaction: the provider has one idempotency key for it"))
	}
	var payment Payment
	if err := b.Decode(0, &payment); err != nil {
		return 0, err
	}
	err := p.provider.Authorise(ctx, b.Tx.String(), payment.Card, payment.Cents)
	switch {
	case errors.Is(err, ErrDeclined):
		return 0, participant.Refuse(err)
	case err != nil:
		return 0, err // out of reach, perhaps: asked again
	}
	return participant.Yes, nil
}

// Commit implements participant.Handler.
func (p *payments) Commit(ctx context.Context, tx messages.ID) error {
	err := p.provider.Capture(ctx, tx.String())
	if errors.Is(err, ErrLapsed) {
		return participant.Heuristic(err)
	}
	return err
}

// Rollback implements participant.Handler.
func (p *payments) Rollback(ctx context.Context, tx messages.ID) error {
	return p.provider.Void(ctx, tx.String())
}
