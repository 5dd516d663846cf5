// SPDX-License-Identifier: Apache-2.0

package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// pagePatience is how long a page may take to be durable at the next owner.
const pagePatience = 10 * time.Second

// Subject is where a node of a group takes pages.
func Subject(prefix, group, node string) string { return prefix + ".handover." + group + "." + node }

// Push sends a partition to its next owner, page by page, each after the one before it was acknowledged, which is when it is
// durable there. After an error all of it can be pushed again.
func (h *Holdings) Push(ctx context.Context, nc *nats.Conn, subject string, partition int, since Version) error {
	var after []byte
	for total := 0; ; {
		page, last, err := h.page(partition, since, after)
		if err != nil {
			return err
		}
		total += len(page.Items)
		if page.Last {
			page.Total = total
		}
		if err := send(ctx, nc, subject, page); err != nil {
			return fmt.Errorf("send partition %d to %s: %w", partition, subject, err)
		}
		if page.Last {
			return nil
		}
		after = last
	}
}

func send(ctx context.Context, nc *nats.Conn, subject string, page *Page) error {
	data, err := json.Marshal(page)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pagePatience)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		return err
	}
	if len(answer.Data) > 0 {
		return fmt.Errorf("it answers: %s", answer.Data)
	}
	return nil
}

// atOnce is how many pages a node makes durable at once; they share the commits of its file.
const atOnce = 256

// Receive takes the pages that are sent to a node until stop is called, which waits for those in hand. The answer to a page is
// empty, or what was wrong.
func (h *Holdings) Receive(nc *nats.Conn, subject string) (stop func() error, err error) {
	slots, closed := make(chan struct{}, atOnce), make(chan struct{})
	var running sync.WaitGroup
	sub, err := nc.Subscribe(subject, func(msg *nats.Msg) {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			_ = msg.Respond(h.receive(msg.Data)) // whoever hears nothing sends it again
		})
	})
	if err != nil {
		return nil, err
	}
	sub.SetClosedHandler(func(string) { close(closed) })
	return func() error {
		err := sub.Drain()
		<-closed
		running.Wait()
		if errors.Is(err, nats.ErrConnectionClosed) {
			return nil
		}
		return err
	}, nil
}

func (h *Holdings) receive(data []byte) (fault []byte) {
	var page Page
	if err := json.Unmarshal(data, &page); err != nil {
		return []byte("this is no page: " + err.Error())
	}
	if err := h.Take(&page); err != nil {
		return []byte(err.Error())
	}
	return nil
}
