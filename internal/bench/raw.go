// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// rawPublishers is how many publishers the yardstick has where it is about throughput.
const rawPublishers = 64

// The ways to connect the publishers.
const (
	shared  = "shared"
	oneEach = "one each"
)

// yardstick publishes single messages to a stream of its own.
type yardstick struct {
	body     []byte
	stream   jetstream.Stream
	shared   jetstream.JetStream
	oneEach  []jetstream.JetStream
	conns    []*nats.Conn
	progress func(step string, loop *loop) // makes a loop tell its progress
}

const rawSubject = "raw.log"

// newYardstick makes the stream, set like a shard's log, and the connections.
func newYardstick(ctx context.Context, url string, payload int) (y *yardstick, err error) {
	y = &yardstick{body: []byte(jsonString(payload)), progress: func(string, *loop) {}}
	defer func() {
		if err != nil {
			y.close()
		}
	}()
	if y.shared, err = y.dial(url); err != nil {
		return nil, err
	}
	for range rawPublishers {
		js, err := y.dial(url)
		if err != nil {
			return nil, err
		}
		y.oneEach = append(y.oneEach, js)
	}
	y.stream, err = y.shared.CreateStream(ctx, jetstream.StreamConfig{
		Name: "raw", Subjects: []string{"raw.>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		Storage: jetstream.FileStorage, Replicas: 1, MaxBytes: -1, Duplicates: 30 * time.Second, DenyDelete: true,
	})
	if err != nil {
		return nil, fmt.Errorf("the yardstick's stream: %w", err)
	}
	return y, nil
}

func (y *yardstick) dial(url string) (jetstream.JetStream, error) {
	nc, err := nats.Connect(url, nats.Name("raw publisher"))
	if err != nil {
		return nil, fmt.Errorf("connect a raw publisher: %w", err)
	}
	y.conns = append(y.conns, nc)
	return newJetStream(nc)
}

func (y *yardstick) close() {
	for _, nc := range y.conns {
		nc.Close()
	}
}

// publishers measures some publishers. Messages carry no id, which would cost them a little.
func (y *yardstick) publishers(ctx context.Context, step string, n int, connections string, d time.Duration) (*measured, error) {
	l := &loop{clients: n, warmup: d / warmupPart, duration: d, do: func(ctx context.Context, client int) error {
		js := y.shared
		if connections == oneEach {
			js = y.oneEach[client]
		}
		_, err := js.Publish(ctx, rawSubject, y.body)
		return err
	}}
	y.progress(step, l)
	m, err := l.run(ctx)
	if err == nil && m.errors > 0 {
		err = fmt.Errorf("raw publish: %w", m.firstErr)
	}
	return m, errors.Join(err, y.empty(ctx))
}

// empty deletes what was published: the disk is the rows' too.
func (y *yardstick) empty(ctx context.Context) error {
	if err := y.stream.Purge(ctx); err != nil {
		return fmt.Errorf("the yardstick's stream: %w", err)
	}
	return nil
}

const (
	// probes is how often each way of connecting is tried.
	probes = 2
	// warmupPart is the part of its time that each measurement of the yardstick warms up before.
	warmupPart = 5
)

// choose finds the way of connecting the publishers that is faster.
func (y *yardstick) choose(ctx context.Context, sample time.Duration) (connections string, err error) {
	published := map[string]float64{}
	for range probes {
		for _, way := range []string{shared, oneEach} {
			m, err := y.publishers(ctx, "raw, which connections", rawPublishers, way, sample)
			if err != nil {
				return "", err
			}
			published[way] += m.perSecond
		}
	}
	if published[oneEach] > published[shared] {
		return oneEach, nil
	}
	return shared, nil
}

// sample measures the yardstick once.
func (y *yardstick) sample(ctx context.Context, connections string, d time.Duration) (RawSample, error) {
	many, err := y.publishers(ctx, "raw, 64 publishers", rawPublishers, connections, d)
	if err != nil {
		return RawSample{}, err
	}
	one, err := y.publishers(ctx, "raw, 1 publisher", 1, oneEach, d/2)
	if err != nil {
		return RawSample{}, err
	}
	return RawSample{PublishPerS64: many.perSecond, PublishP50MS1: one.quantile(50)}, nil
}

// jsonString is a JSON string of so many bytes, quotes included.
func jsonString(size int) string {
	return `"` + string(bytes.Repeat([]byte("x"), size-2)) + `"`
}
