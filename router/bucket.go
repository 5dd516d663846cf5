// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// openBucket makes the bucket of the rings, or checks the one that is there. It is made as the stream that it is, because
// the KV API would turn on direct gets, which may be stale on a replicated stream: here the stream's leader answers.
func openBucket(ctx context.Context, js jetstream.JetStream, n names, replicas int) error {
	want := bucketSettings(n, replicas)
	stream, err := streams.Open(ctx, js, want)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	if err := streams.Check(stream.CachedInfo().Config, want, "rings"); err != nil {
		return fmt.Errorf("router: %w: %w, or choose another prefix", ErrSettings, err)
	}
	return nil
}

// bucketSettings are those of the bucket's stream. Every one that the rings rest on is checked whenever it is opened.
func bucketSettings(n names, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:              n.stream(),
		Description:       "Assent: the rings, and what nodes say of themselves",
		Subjects:          []string{n.allKeys()},
		Storage:           jetstream.FileStorage,
		Replicas:          replicas,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardNew,
		MaxMsgsPerSubject: 1,
		AllowRollup:       true,
		DenyDelete:        true,
		AllowDirect:       false,
		AllowMsgTTL:       true,
	}
}

// persist does something until it succeeds or fails for good.
func persist(ctx context.Context, attempt func(context.Context) error) error {
	return streams.Persist(ctx, attempt, errUnknown)
}

// raw is what is stored at a subject, as the stream's leader says. Revision 0: nothing.
type raw struct {
	revision uint64
	data     []byte
	deleted  bool
	writes   []string // the writes that led to it, newest first; see swap
}

// The codes by which JetStream says that there is no such stream, and no message on the subject.
const (
	codeNoStream  = jetstream.JSErrCodeStreamNotFound
	codeNoMessage = jetstream.JSErrCodeMessageNotFound
)

// errNoBucket is of a bucket that nobody has made yet, or that was deleted.
var errNoBucket = errors.New("no such bucket")

// last asks the stream's leader what is stored at a subject. It is the one request that a reader must be permitted, and it
// is made without the stream's description, which readers may not ask for.
func (s *store) last(ctx context.Context, subject string) (raw, error) {
	request, err := json.Marshal(map[string]string{"last_by_subj": subject})
	if err != nil {
		return raw{}, err
	}
	msg, err := s.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+s.names.stream(), request)
	if err != nil {
		return raw{}, fmt.Errorf("stream %s: %w", s.names.stream(), err)
	}
	var response struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &response); err != nil {
		return raw{}, fmt.Errorf("stream %s: %w", s.names.stream(), err)
	}
	switch refusal := response.Error; {
	case refusal == nil:
	case refusal.ErrorCode == codeNoMessage:
		return raw{}, nil
	case refusal.ErrorCode == codeNoStream:
		return raw{}, fmt.Errorf("stream %s: %w", s.names.stream(), errNoBucket)
	default:
		return raw{}, fmt.Errorf("stream %s: %w", s.names.stream(), refusal)
	}
	header, err := decodeHeader(response.Message.Header)
	if err != nil {
		return raw{}, fmt.Errorf("stream %s: the headers of %s: %w", s.names.stream(), subject, err)
	}
	return rawOf(response.Message.Sequence, header, response.Message.Data), nil
}

func decodeHeader(data []byte) (nats.Header, error) {
	if len(data) == 0 {
		return nil, nil
	}
	return nats.DecodeHeadersMsg(data)
}

// rawOf is a message of the bucket as it is stored.
func rawOf(revision uint64, header nats.Header, data []byte) raw {
	operation := header.Get("KV-Operation")
	return raw{revision, data, operation == "DEL" || operation == "PURGE", strings.Fields(header.Get(writesHeader))}
}
