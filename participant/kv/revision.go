// SPDX-License-Identifier: Apache-2.0

package kv

import (
	"bytes"
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// have gives the revisions of a branch's keys, by the leaders of their buckets' streams, and of those that it deletes whether they are there.
//
// It asks for a revision by a write that is never stored: a compare-and-swap on one that no key can have. The stream refuses it, in its
// turn among the writes, so never before one that was acknowledged, and tells the key's revision. A get from the leader costs the server
// four times that, waits for the writes' syncs, and shares one queue with those of all other buckets.
//
// An answer that is not exactly this refusal says nothing: a write to the key may be on its way through a replicated stream, the bucket
// may be gone or full, or somebody else answers. Then the leader is asked by a get, as it is for a deletion.
func (s *store) have(ctx context.Context, d *demands) ([]found, error) {
	have := make([]found, len(d.refs))
	asked, others := make([]int, 0, len(d.refs)), []int(nil)
	for i, r := range d.refs {
		if d.changes[r].delete {
			others = append(others, i)
		} else {
			asked = append(asked, i)
		}
	}
	batch := s.requests.begin(len(asked), askTime)
	for _, i := range asked {
		batch.send(ctx, &nats.Msg{Subject: d.refs[i].subject(), Header: nats.Header{jetstream.ExpectedLastSubjSeqHeader: {impossible}}})
	}
	for n, answer := range batch.wait(ctx) {
		i := asked[n]
		var told bool
		if answer != nil {
			have[i].revision, told = refusedAt(answer.Data, d.refs[i].bucket)
		}
		if !told {
			others = append(others, i)
		}
	}
	return have, s.each(len(others), func(n int) (err error) {
		i := others[n]
		have[i], err = last(ctx, s.nc, d.refs[i])
		return err
	})
}

// impossible is a revision that no key has.
const impossible = "9223372036854775807"

// refusedAt reads the revision in a stream's refusal, which is, to the byte,
//
//	{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 17"},"stream":"KV_stock","seq":0}
func refusedAt(answer []byte, bucket string) (revision uint64, ok bool) {
	rest, ok := bytes.CutPrefix(answer, refusalBegins)
	if !ok {
		return 0, false
	}
	digits, rest, ok := bytes.Cut(rest, refusalGoesOn)
	if !ok || !isName(rest, bucket) {
		return 0, false
	}
	revision, err := strconv.ParseUint(string(digits), 10, 64)
	return revision, err == nil
}

// isName tells whether a JSON string goes on with a name, and ends.
func isName(text []byte, name string) bool {
	n := len(name)
	return len(text) > n && text[n] == '"' && string(text[:n]) == name
}

var (
	refusalBegins = []byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: `)
	refusalGoesOn = []byte(`"},"stream":"KV_`)
)
