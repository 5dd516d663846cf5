// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

// routeSubject is where the routing service is asked.
const routeSubject = messages.DefaultPrefix + ".route"

// requestPair asks the routing service for one key, and the yardstick's subscriber for the same bytes again, in turns: whatever slows one
// request slows its neighbour too.
type requestPair struct {
	cluster *ringCluster
	body    []byte
	asked   int
	// counting is from when on latencies count.
	counting                  time.Time
	slice, yardstickSlice     *hdrhistogram.Histogram // of this slice, in nanoseconds
	latencies, yardstick      *hdrhistogram.Histogram // of all, in nanoseconds
	samples, yardstickSamples []float64               // the slices' medians, in milliseconds
	errors                    int64
	firstErr                  error
}

func newRequestPair(c *ringCluster) *requestPair {
	key := "customer/4711"
	body, err := json.Marshal(router.RouteRequest{Group: ringGroup, Key: &key})
	if err != nil {
		panic(err) // two strings
	}
	return &requestPair{
		cluster: c, body: body, slice: newHistogram(), yardstickSlice: newHistogram(), latencies: newHistogram(), yardstick: newHistogram(),
	}
}

func (p *requestPair) begin(warmup time.Duration) {
	p.slice.Reset()
	p.yardstickSlice.Reset()
	p.counting = time.Now().Add(warmup)
}

func (p *requestPair) do(ctx context.Context, _ int) error {
	p.asked++
	if p.asked%2 == 0 { // each is the first as often as the second
		return errors.Join(p.route(ctx), p.echo(ctx))
	}
	return errors.Join(p.echo(ctx), p.route(ctx))
}

func (p *requestPair) route(ctx context.Context) error {
	answer, err := p.timed(ctx, routeSubject, p.slice)
	if err == nil && !bytes.Contains(answer, []byte(`"node":"node-`)) {
		err = fmt.Errorf("%s: the answer names no node: %s", routeSubject, answer)
	}
	return err
}

func (p *requestPair) echo(ctx context.Context) error {
	_, err := p.timed(ctx, echoSubject, p.yardstickSlice)
	return err
}

// timed is one request, whose time counts.
func (p *requestPair) timed(ctx context.Context, subject string, into *hdrhistogram.Histogram) ([]byte, error) {
	begun := time.Now()
	msg, err := p.cluster.ask(ctx, subject, p.body)
	if err != nil {
		return nil, err
	}
	if begun.After(p.counting) {
		// It cannot fail: the value is within the histogram's range.
		_ = into.RecordValue(int64(min(max(time.Since(begun), shortest), longest)))
	}
	return msg.Data, nil
}

func (p *requestPair) end(found *measured) {
	p.latencies.Merge(p.slice)
	p.yardstick.Merge(p.yardstickSlice)
	p.samples = append(p.samples, milliseconds(p.slice.ValueAtQuantile(50)))
	p.yardstickSamples = append(p.yardstickSamples, milliseconds(p.yardstickSlice.ValueAtQuantile(50)))
	p.errors += found.errors
	if p.firstErr == nil {
		p.firstErr = found.firstErr
	}
}

// ratios are those of the slices.
func (p *requestPair) ratios() []float64 {
	ratios := make([]float64, len(p.samples))
	for i := range ratios {
		ratios[i] = ratio(p.samples[i], p.yardstickSamples[i])
	}
	return ratios
}

// batchKeys is how many keys a request has that asks for many.
const batchKeys = 1000

// batchLoad asks the routing service for many keys at once, one request after the other: writing the request and reading the answer are
// part of it.
type batchLoad struct {
	cluster  *ringCluster
	keys     []string
	next     int       // the first key of the next request
	samples  []float64 // keys a second, a slice each
	errors   int64
	firstErr error
}

func newBatchLoad(c *ringCluster, keys []string) *batchLoad {
	return &batchLoad{cluster: c, keys: keys}
}

func (b *batchLoad) begin(time.Duration) {}

func (b *batchLoad) do(ctx context.Context, _ int) error {
	if b.next+batchKeys > len(b.keys) {
		b.next = 0
	}
	request := router.RouteRequest{Group: ringGroup, Keys: b.keys[b.next : b.next+batchKeys]}
	b.next += batchKeys
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	msg, err := b.cluster.ask(ctx, routeSubject, body)
	if err != nil {
		return err
	}
	var answer router.RoutesResponse
	if err := json.Unmarshal(msg.Data, &answer); err != nil {
		return fmt.Errorf("%s: %w", routeSubject, err)
	}
	if len(answer.Routes) != batchKeys || answer.Routes[batchKeys-1].Node == "" {
		return fmt.Errorf("%s: %d routes for %d keys, or one of nobody", routeSubject, len(answer.Routes), batchKeys)
	}
	return nil
}

func (b *batchLoad) end(found *measured) {
	b.samples = append(b.samples, found.perSecond*batchKeys)
	b.errors += found.errors
	if b.firstErr == nil {
		b.firstErr = found.firstErr
	}
}
