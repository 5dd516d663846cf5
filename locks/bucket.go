// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks/internal/record"
)

// Kind is what a key is used as. The same key of another kind is another key.
type Kind string

// The kinds.
const (
	KindLock      Kind = "lock"
	KindSemaphore Kind = "semaphore"
	KindElection  Kind = "election"
)

// DefaultBucket is the bucket of a Config that names none.
const DefaultBucket = "assent-locks"

const (
	// maxKey bounds a key, in bytes.
	maxKey = 512
	// maxStreams bounds the streams of a bucket.
	maxStreams = 64
	// freeFor is how long the record of a key stays that was given back: it saves the next one a look.
	freeFor = "1h"
	// endedFor is how long the record of an ended session stays, and silentFor that of one that is not renewed any more:
	// both only clean up, and decide nothing.
	endedFor  = "1h"
	silentFor = "48h"
	// streamsMetadata is where the first stream says how many there are.
	streamsMetadata = "assent-streams"
)

// bucket is where locks and sessions are stored: some streams, each a KV bucket of NATS of its own, over which the keys are
// spread, because one stream syncs one write at a time.
type bucket struct {
	name         string
	nc           *nats.Conn
	js           jetstream.JetStream
	streams      []jetstream.Stream
	incarnations []uint64
	// newest are the greatest sequences that were acknowledged, by stream.
	newest []*atomic.Uint64
}

var (
	bucketName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	legalKey   = regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`)
)

// CheckKey says why a key cannot be one, with an ErrInvalid; nil when it can. Keys are 1 to 512 of the characters that a
// KV bucket of NATS takes: letters, digits and - _ = / . with no dot at either end and no two in a row.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("locks: %w: the key is empty", ErrInvalid)
	case len(key) > maxKey:
		return fmt.Errorf("locks: %w: the key %.40q… has %d bytes, at most %d are allowed", ErrInvalid, key, len(key), maxKey)
	case !legalKey.MatchString(key):
		return fmt.Errorf("locks: %w: the key %q: only letters, digits and - _ = / . are allowed", ErrInvalid, key)
	case strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, ".."):
		return fmt.Errorf("locks: %w: the key %q: a dot needs something on both sides", ErrInvalid, key)
	}
	return nil
}

func checkBucketName(name string) error {
	if !bucketName.MatchString(name) {
		return fmt.Errorf("locks: %w: the bucket %q: want 1 to 64 of letters, digits, - and _", ErrInvalid, name)
	}
	return nil
}

// openBucket opens a bucket, and makes what is missing of it if create.
func openBucket(ctx context.Context, nc *nats.Conn, cfg *Config, create bool) (*bucket, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("locks: %w", err)
	}
	b := &bucket{name: cfg.Bucket, nc: nc, js: js}
	first, err := b.openStream(ctx, 0, cfg, create)
	if err != nil {
		return nil, err
	}
	b.add(first)
	count, err := strconv.Atoi(first.CachedInfo().Config.Metadata[streamsMetadata])
	if err != nil || count < 1 || count > maxStreams {
		return nil, fmt.Errorf("locks: %w: stream %s says in its metadata that there are %q streams: it was not made by this package, or changed since",
			ErrSettings, b.streamName(0), first.CachedInfo().Config.Metadata[streamsMetadata])
	}
	if cfg.Streams != 0 && cfg.Streams != count {
		return nil, fmt.Errorf("locks: %w: the bucket %s was made with %d streams and is asked for with %d: the number is fixed; leave it out",
			ErrSettings, b.name, count, cfg.Streams)
	}
	for i := 1; i < count; i++ {
		stream, err := b.openStream(ctx, i, cfg, create)
		if err != nil {
			return nil, err
		}
		b.add(stream)
	}
	return b, nil
}

func (b *bucket) add(stream jetstream.Stream) {
	b.streams = append(b.streams, stream)
	b.incarnations = append(b.incarnations, uint64(stream.CachedInfo().Created.UnixNano()))
	b.newest = append(b.newest, new(atomic.Uint64))
}

func (b *bucket) streamName(i int) string { return fmt.Sprintf("KV_%s-%d", b.name, i) }

// settings are those of one stream. Every one that locks rest on is checked whenever the bucket is opened.
func (b *bucket) settings(i int, cfg *Config) jetstream.StreamConfig {
	replicas := max(cfg.Replicas, 1)
	count := cfg.Streams
	if count == 0 {
		count = defaultStreams(replicas)
	}
	return jetstream.StreamConfig{
		Name:               b.streamName(i),
		Description:        "Assent: locks and sessions",
		Subjects:           []string{fmt.Sprintf("$KV.%s-%d.>", b.name, i)},
		Storage:            jetstream.FileStorage,
		Replicas:           replicas,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		MaxMsgsPerSubject:  1,
		AllowRollup:        true,
		DenyDelete:         true,
		AllowDirect:        false,
		AllowMsgTTL:        true,
		AllowAtomicPublish: replicas > 1, // see gathering
		Metadata:           map[string]string{streamsMetadata: strconv.Itoa(count)},
	}
}

// defaultStreams: one server syncs each stream by itself, so several are faster; a Raft group syncs for all who write at
// once, so there one is.
func defaultStreams(replicas int) int {
	if replicas > 1 {
		return 1
	}
	return 8
}

func (b *bucket) openStream(ctx context.Context, i int, cfg *Config, create bool) (jetstream.Stream, error) {
	want := b.settings(i, cfg)
	var stream jetstream.Stream
	var err error
	if create {
		stream, err = streams.Open(ctx, b.js, want)
	} else {
		stream, err = streams.Find(ctx, b.js, want.Name)
	}
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("locks: %w: %s (stream %s)", ErrNoBucket, b.name, want.Name)
	case err != nil:
		return nil, fmt.Errorf("locks: %w", err)
	}
	if err := streams.Check(stream.CachedInfo().Config, want, "locks"); err != nil {
		return nil, fmt.Errorf("locks: %w: %w, or choose another bucket", ErrSettings, err)
	}
	return stream, nil
}

// place is where a key is stored: by the FNV-1a hash of its kind and itself.
type place struct {
	stream  int
	subject string
}

func (b *bucket) place(kind, key string) place {
	h := fnv.New64a()
	h.Write([]byte(kind))
	h.Write([]byte{'.'})
	h.Write([]byte(key))
	stream := int(h.Sum64() % uint64(len(b.streams)))
	return place{stream, fmt.Sprintf("$KV.%s-%d.%s.%s", b.name, stream, kind, key)}
}

// inbox is the subject on which a session hears the others.
func (b *bucket) inbox(session string) string { return "assent.locks." + b.name + "." + session }

// What a compare-and-swap may come to, other than nil.
var (
	errConflict = errors.New("the record has another revision")
	errUnknown  = errors.New("not acknowledged") // it may be stored, or be stored yet
	errRemade   = fmt.Errorf("%w: the stream was deleted and made again", ErrLost)
)

// The codes with which JetStream refuses a write for its revision. The second comes from a replicated stream that has
// another write under way on the subject: it proves nothing about what is stored.
const (
	codeWrongSequence    = 10071
	codeSequenceUnproven = 10164
)

// swap stores a message if the revision of its subject is the expected one (0: there is none), and gives the new one. The
// error is an errConflict (with unproven set when it is of the second kind), an errUnknown, an errRemade for what was stored in another stream of that
// name, or a refusal for good.
func (b *bucket) swap(ctx context.Context, at place, msg *nats.Msg, expected uint64) (revision uint64, unproven bool, err error) {
	msg.Subject = at.subject
	before := b.newest[at.stream].Load()
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithExpectLastSequencePerSubject(expected), jetstream.WithRetryAttempts(0))
	if err == nil {
		return ack.Sequence, false, b.acknowledged(at.stream, ack.Sequence, before)
	}
	var refusal *jetstream.APIError
	switch {
	case errors.As(err, &refusal) && refusal.ErrorCode == codeWrongSequence:
		return 0, false, errConflict
	case errors.As(err, &refusal) && refusal.ErrorCode == codeSequenceUnproven:
		return 0, true, errConflict
	case errors.As(err, &refusal) && refusal.Code < 500:
		return 0, false, fmt.Errorf("stream %s: %w", b.streamName(at.stream), err)
	case errors.As(err, &refusal) && noRoom(refusal), errors.Is(err, nats.ErrMaxPayload):
		return 0, false, fmt.Errorf("stream %s: %w", b.streamName(at.stream), err)
	default:
		return 0, false, fmt.Errorf("%w: %w", errUnknown, err)
	}
}

// acknowledged notes the sequence of a write that was sent when another one was the newest that was known. In one stream it is greater; where it is not,
// the stream is another one, whose sequences make no tokens for what was opened before.
func (b *bucket) acknowledged(stream int, sequence, before uint64) error {
	if sequence <= before {
		return fmt.Errorf("locks: stream %s: %w", b.streamName(stream), errRemade)
	}
	newest := b.newest[stream]
	for known := newest.Load(); known < sequence && !newest.CompareAndSwap(known, sequence); known = newest.Load() {
	}
	return nil
}

// noRoom tells whether a refusal is for want of room.
func noRoom(refusal *jetstream.APIError) bool {
	switch refusal.ErrorCode {
	case 10077, 10023, 10028, 10047: // maximum exceeded, insufficient resources, storage exceeded, insufficient storage
		return true
	default:
		return false
	}
}

// tombstone is a delete marker as the KV buckets of NATS have them, which cleans itself up.
func tombstone(data []byte, ttl string) *nats.Msg {
	return &nats.Msg{Data: data, Header: nats.Header{"KV-Operation": {"DEL"}, jetstream.MsgTTLHeader: {ttl}}}
}

// put stores a version of a key's record.
func (b *bucket) put(ctx context.Context, at place, r *record.Record, expected uint64) (revision uint64, unproven bool, err error) {
	return b.swap(ctx, at, recordMessage(r), expected)
}

// recordMessage is a record as it is stored; one of a free key is a delete marker.
func recordMessage(r *record.Record) *nats.Msg {
	if r.Free() {
		return tombstone(r.Encode(), freeFor)
	}
	return &nats.Msg{Data: r.Encode(), Header: nats.Header{}}
}

// raw is what is stored at a subject, as the stream's leader says. Revision 0: nothing.
type raw struct {
	revision uint64
	data     []byte
	deleted  bool
}

func (b *bucket) last(ctx context.Context, at place) (raw, error) {
	msg, err := b.streams[at.stream].GetLastMsgForSubject(ctx, at.subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return raw{}, nil
	}
	if err != nil {
		return raw{}, fmt.Errorf("stream %s: %w", b.streamName(at.stream), err)
	}
	operation := msg.Header.Get("KV-Operation")
	return raw{msg.Sequence, msg.Data, operation == "DEL" || operation == "PURGE"}, nil
}

// get reads the record of a key.
func (b *bucket) get(ctx context.Context, at place) (record.Record, uint64, error) {
	last, err := b.last(ctx, at)
	if err != nil {
		return record.Record{}, 0, err
	}
	return decode(at, &last)
}

// decode gives the record of a key of what is stored of it.
func decode(at place, last *raw) (record.Record, uint64, error) {
	if last.revision == 0 {
		return record.Record{}, 0, nil
	}
	r, err := record.Decode(last.data, last.revision)
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return record.Record{}, 0, fmt.Errorf("%w: subject %s, revision %d: %w", ErrRecord, at.subject, last.revision, err)
	}
	return r, last.revision, nil
}

// token is the token of a grant by the version of a sequence.
func (b *bucket) token(at place, sequence uint64) Token {
	return Token{Incarnation: b.incarnations[at.stream], Sequence: sequence}
}

// ms is a duration in the unit of the records.
func ms(d time.Duration) int64 { return d.Milliseconds() }
