// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
)

// Run lets a node act, be given partitions, and take part in transactions, until ctx ends. Then the node ends first, and lets
// what it has in hand end, for which it needs the participant; when nothing comes to it any more, it takes no more pages.
func (h *Hooks) Run(ctx context.Context, node *router.Node, p *participant.Participant) error {
	stop, err := h.Holdings.Receive(h.Conn, Subject(h.Prefix, h.Holdings.Group, h.Node))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	taking, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	took, swept := make(chan error, 1), make(chan struct{})
	client, err := router.NewClient(h.Conn, router.Config{Prefix: h.Prefix})
	if err != nil {
		return errors.Join(err, stop())
	}
	defer client.Close()
	go func() {
		defer cancel() // neither is of use without the other
		took <- p.Run(taking)
	}()
	go func() {
		defer close(swept)
		select {
		case <-node.Ready():
			h.tidy(ctx, client) // after a crash
		case <-ctx.Done():
		}
	}()
	err = node.Run(ctx)
	cancel()
	end()
	<-swept
	h.tidy(context.WithoutCancel(ctx), client) // what was handed over last
	return errors.Join(err, <-took, stop())
}

// tidyPatience is how long a ring may take to be read.
const tidyPatience = 5 * time.Second

// tidy drops the copies that the ring says are another's. A node is not asked to drop what it handed over before it was killed, or
// just before it ended.
func (h *Hooks) tidy(ctx context.Context, client *router.Client) {
	ctx, cancel := context.WithTimeout(ctx, tidyPatience)
	defer cancel()
	if err := h.sweep(ctx, client); err != nil {
		h.Log.WithError(err).Warn("copies of partitions that were handed over were not dropped; the next start does that")
	}
}

func (h *Hooks) sweep(ctx context.Context, client *router.Client) error {
	ring, incarnation, epoch, err := client.Ring(ctx, h.Holdings.Group)
	if err != nil {
		return err
	}
	copies, err := h.Holdings.released()
	for partition, since := range copies {
		owner := ring.OwnerOf(partition)
		if owner == "" || owner == h.Node || !since.Before(Version{incarnation, epoch}) {
			continue
		}
		if dropErr := h.Holdings.Drop(partition, since); dropErr != nil {
			err = errors.Join(err, fmt.Errorf("drop partition %d: %w", partition, dropErr))
		}
	}
	return err
}
