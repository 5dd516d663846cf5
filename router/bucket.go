// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// openBucket makes the bucket of the rings, or checks the one that is there. It is made as the stream that it is, because
// the KV API would turn on direct gets, which may be stale on a replicated stream: here the stream's leader answers.
func openBucket(ctx context.Context, js jetstream.JetStream, n names, replicas int) error {
	want := bucketSettings(n, replicas)
	var stream jetstream.Stream
	err := persist(ctx, func(ctx context.Context) (err error) {
		stream, err = js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			stream, err = js.CreateStream(ctx, want)
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // somebody else opens it at the same moment
				stream, err = js.Stream(ctx, want.Name)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("router: stream %s: %w", want.Name, err)
	}
	return checkSettings(stream.CachedInfo().Config, want)
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

// checkSettings compares the settings that the rings rest on.
func checkSettings(have, want jetstream.StreamConfig) error {
	var faults []string
	fault := func(differs bool, setting string, have, want any, why string) {
		if differs {
			faults = append(faults, fmt.Sprintf("%s is %v, want %v (%s)", setting, have, want, why))
		}
	}
	fault(have.Storage != want.Storage, "storage", have.Storage, want.Storage, "rings must survive a restart")
	fault(have.Retention != want.Retention, "retention", have.Retention, want.Retention, "records must stay")
	fault(have.Discard != want.Discard, "discard", have.Discard, want.Discard, "a full stream must not drop records")
	fault(have.MaxAge != 0, "max age", have.MaxAge, 0, "rings would vanish with time")
	fault(have.MaxMsgs > 0, "max messages", have.MaxMsgs, "unlimited", "records would be dropped")
	fault(have.MaxMsgsPerSubject != 1, "max messages per subject", have.MaxMsgsPerSubject, 1, "only the newest version counts")
	fault(have.AllowDirect, "allow direct", true, false, "direct gets are answered by replicas that may be behind")
	fault(!have.AllowMsgTTL, "allow message TTL", false, true, "what is over could not be cleaned up")
	fault(have.SubjectDeleteMarkerTTL != 0, "subject delete marker TTL", have.SubjectDeleteMarkerTTL, 0, "a marker can overwrite a record that was acknowledged")
	fault(len(have.Subjects) != 1 || have.Subjects[0] != want.Subjects[0], "subjects", have.Subjects, want.Subjects, "the keys live there")
	fault(have.Mirror != nil || len(have.Sources) > 0, "mirror or sources", "set", "none", "writes must come in one order")
	fault(have.SubjectTransform != nil, "subject transform", "set", "none", "the keys would not be found")
	fault(have.NoAck, "no ack", true, false, "an unacknowledged ring is none")
	fault(have.Sealed, "sealed", true, false, "nothing could be written")
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("router: %w: stream %s: %s: change it back with `nats stream edit %s`, or choose another prefix",
		ErrSettings, have.Name, strings.Join(faults, "; "), have.Name)
}

// For how long a server is asked again that does not answer: a replicated stream has no leader for a while after it was made,
// and after its leader died; nobody at all answers where there is no JetStream.
const (
	attemptTime  = 2 * time.Second
	attemptPause = 100 * time.Millisecond
	silentTime   = 15 * time.Second
	nobodyTime   = 3 * time.Second
)

// persist does something until it succeeds or fails for good.
func persist(ctx context.Context, f func(context.Context) error) error {
	for begun := time.Now(); ; {
		attempt, cancel := context.WithTimeout(ctx, attemptTime)
		err := f(attempt)
		cancel()
		if err == nil || ctx.Err() != nil || time.Since(begun) >= patience(err) {
			return err
		}
		if !pause(ctx, attemptPause) {
			return err
		}
	}
}

// patience is for how long to try again what failed so.
func patience(err error) time.Duration {
	var refusal *jetstream.APIError
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return nobodyTime
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout), errors.Is(err, errUnknown):
		return silentTime
	case errors.As(err, &refusal) && refusal.Code == 503: // not available just now
		return silentTime
	default:
		return 0
	}
}

// pause waits; false when ctx ended meanwhile.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
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
