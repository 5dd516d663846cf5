// SPDX-License-Identifier: Apache-2.0

package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/locks"
)

// The headers of a record. Readers that know nothing of them see the value as it is.
const (
	// TokenHeader has the token with which a record was written, as locks.Token.String.
	TokenHeader = "Assent-Token"
	// writeHeader has the id of the write, by which it is known again when its acknowledgement was lost.
	writeHeader = "Assent-Write"
	// pastHeader has the writes before it, newest first: "revision:id", comma-separated.
	pastHeader = "Assent-Past"
)

const (
	operationHeader = "KV-Operation" // of the KV protocol; a record without it is a value
	deleted         = "DEL"
	// attemptPatience is how long one request may take.
	attemptPatience = 5 * time.Second
)

// KV keeps values in a JetStream key-value bucket, each with the token with which it was written, and refuses older tokens. Other
// clients read, list and watch the bucket as ever. It is safe for concurrent use.
//
// Every writer of the bucket has to use it. A put, delete or purge past it takes the key's token away, and so does PurgeDeletes
// for the keys that it removes: after that any token is accepted.
type KV struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	bucket string

	// read and publish are what tests put faults into. publish is conditional on the key's revision, 0 for none.
	read    func(ctx context.Context, key string) (*record, error)
	publish func(ctx context.Context, msg *nats.Msg, revision uint64) (uint64, error)
}

// Entry is a value, and with which token it was written.
type Entry struct {
	Key   string
	Value []byte
	// Revision is the value's place in the bucket's stream.
	Revision uint64
	// Token is zero if the value was written past KV.
	Token locks.Token
	// Created is when the server stored it, by its clock.
	Created time.Time
}

// OpenKV gives the values of a bucket that exists. It fails with jetstream.ErrBucketNotFound if it does not, and with
// locks.ErrSettings if its stream drops records, and tokens with them, by age or size, or is a copy of another.
func OpenKV(ctx context.Context, nc *nats.Conn, bucket string) (*KV, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	if _, err := js.KeyValue(ctx, bucket); err != nil {
		return nil, fmt.Errorf("fence: bucket %q: %w", bucket, err)
	}
	stream, err := js.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return nil, fmt.Errorf("fence: bucket %q: %w", bucket, err)
	}
	if err := checkSettings(&stream.CachedInfo().Config); err != nil {
		return nil, fmt.Errorf("fence: bucket %q: %w", bucket, err)
	}
	kv := &KV{nc: nc, js: js, bucket: bucket}
	kv.read, kv.publish = kv.readLeader, kv.publishIf
	return kv, nil
}

func checkSettings(c *jetstream.StreamConfig) error {
	switch {
	case c.MaxAge > 0:
		return fmt.Errorf("its TTL of %v would drop tokens: use a bucket without one: %w", c.MaxAge, locks.ErrSettings)
	case c.Discard == jetstream.DiscardOld && (c.MaxBytes > 0 || c.MaxMsgs > 0):
		return fmt.Errorf("it drops the oldest records when it is full, and tokens with them: set its discard policy to new: %w", locks.ErrSettings)
	case c.Mirror != nil || len(c.Sources) > 0:
		return fmt.Errorf("it is a copy of another: open that one: %w", locks.ErrSettings)
	default:
		return nil
	}
}

// Put writes a value unless a newer token was seen for the key (a *StaleError), and gives its revision. A conflict with another
// writer is retried, and a write whose acknowledgement was lost is settled, until the context ends; give it a deadline. If that
// comes first the error is an ErrUnknown; the same Put may be tried again then, and at worst takes effect twice.
func (kv *KV) Put(ctx context.Context, key string, value []byte, token locks.Token) (uint64, error) {
	return kv.write(ctx, key, token, "", value)
}

// Delete deletes a value, unless a newer token was seen for the key (a *StaleError). The token stays, in a marker, so that an older
// Put that comes later is refused; a key that does not exist gets one as well. Otherwise it is as Put.
func (kv *KV) Delete(ctx context.Context, key string, token locks.Token) error {
	_, err := kv.write(ctx, key, token, deleted, nil)
	return err
}

// Get reads a value as the leader of the bucket's stream has it: also right after a write of this or another process, where the direct
// read of other clients may give an older one. It fails with jetstream.ErrKeyNotFound if there is none.
func (kv *KV) Get(ctx context.Context, key string) (*Entry, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	r, err := kv.read(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("fence: %q: %w", key, err)
	}
	if r.revision == 0 || r.gone {
		return nil, fmt.Errorf("fence: %q: %w", key, jetstream.ErrKeyNotFound)
	}
	return &Entry{Key: key, Value: r.value, Revision: r.revision, Token: r.token, Created: r.created}, nil
}

var keyPattern = regexp.MustCompile(`^[-/_=.a-zA-Z0-9]+$`)

func checkKey(key string) error {
	if !keyPattern.MatchString(key) || strings.HasPrefix(key, ".") || strings.HasSuffix(key, ".") || strings.Contains(key, "..") {
		return fmt.Errorf("fence: key %.40q: want [-/_=.a-zA-Z0-9], without dots that end or follow each other: %w: %w", key, jetstream.ErrInvalidKey, ErrInvalid)
	}
	return nil
}

// readLeader reads a key's record from the stream's leader. The client's own ways ask any replica if the stream allows it,
// which every bucket's does, and which may be behind.
func (kv *KV) readLeader(ctx context.Context, key string) (*record, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	body, err := json.Marshal(map[string]string{"last_by_subj": kv.subject(key)})
	if err != nil {
		return nil, err
	}
	reply, err := kv.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+kv.bucket, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return &record{}, nil
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, errors.New("the server's answer has no message")
	}
	m := answer.Message
	return parseRecord(m.Sequence, m.Header, m.Data, m.Time)
}

// publishIf publishes if the key's revision is still the given one.
func (kv *KV) publishIf(ctx context.Context, msg *nats.Msg, revision uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptPatience)
	defer cancel()
	msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(revision, 10))
	ack, err := kv.js.PublishMsg(ctx, msg)
	var answer *jetstream.APIError
	switch {
	case err == nil:
		return ack.Sequence, nil
	case errors.As(err, &answer) && (answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		answer.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant): // the second, at three replicas: also a write in flight
		return 0, errConflict
	default:
		return 0, err
	}
}

func (kv *KV) subject(key string) string { return "$KV." + kv.bucket + "." + key }
