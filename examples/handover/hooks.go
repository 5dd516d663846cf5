// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/router"
)

// Hooks hand partitions over, as the router's node asks. Each of them may be called again until it succeeds, and once more
// after a crash.
type Hooks struct {
	// Holdings are the node's, and Conn is how it reaches the others.
	Holdings *Holdings
	Conn     *nats.Conn
	// Node is the node's name.
	Node string
	// Prefix is the first token of the subjects.
	Prefix string
	// Log receives what an operator should know.
	Log *logrus.Logger
}

var (
	_ router.Hooks   = (*Hooks)(nil)
	_ router.Dropper = (*Hooks)(nil)
)

// Acquire implements router.Hooks: from now on the partition is held.
func (h *Hooks) Acquire(_ context.Context, m router.Move) error {
	whole, err := h.Holdings.Acquire(m.Partition, Version{m.Token.Incarnation, m.Epoch})
	if err == nil && !whole && m.From != "" {
		h.Log.WithField("partition", m.Partition).WithField("from", m.From).
			Warn("the owner before has not handed its keys over: it was removed by force; they are only in its file")
	}
	return err
}

// Release implements router.Hooks: it pushes the partition to its next owner. It is over when all of it is durable there.
func (h *Hooks) Release(ctx context.Context, m router.Move) error {
	if m.To == "" {
		return errors.New("a partition that holds keys cannot be nobody's")
	}
	since := Version{m.Token.Incarnation, m.Since}
	if err := h.Holdings.Push(ctx, h.Conn, Subject(h.Prefix, h.Holdings.Group, m.To), m.Partition, since); err != nil {
		return err
	}
	return h.Holdings.Release(m.Partition, since)
}

// Drop implements router.Dropper: the ring says that the partition is another's, so the copy here may go.
func (h *Hooks) Drop(_ context.Context, m router.Move) error {
	return h.Holdings.Drop(m.Partition, Version{m.Token.Incarnation, m.Since})
}
