// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/streams"
)

// headerName is the header that every message of a journal has: the version of its format, the instance that wrote it, and
// the sequence after which it was written. The two together name the message: an instance writes one at a place.
const headerName = "Assent-Journal"

// version is of the format that this package writes, and the newest that it reads.
const version = 1

var (
	// ErrNewer means that the journal was written by a newer version of Assent than this one.
	ErrNewer = errors.New("the journal was written by a newer version: upgrade this instance")
	// ErrDamaged means that the journal's stream holds something that no journal wrote.
	ErrDamaged = errors.New("the journal is damaged")
	// ErrLost means that the stream lacks messages which were acknowledged.
	ErrLost = errors.New("the journal has lost data")
)

// origin is what a message's header says.
type origin struct {
	instance string
	base     uint64
}

func (o origin) String() string {
	return strconv.Itoa(version) + " " + o.instance + " " + strconv.FormatUint(o.base, 10)
}

func parseOrigin(header nats.Header) (o origin, err error) {
	text := header.Get(headerName)
	number, rest, _ := strings.Cut(text, " ")
	v, err := strconv.ParseUint(number, 10, 32)
	if err == nil && v > version {
		return o, fmt.Errorf("%w: its format is %d, this one reads %d", ErrNewer, v, version)
	}
	instance, base, _ := strings.Cut(rest, " ")
	o = origin{instance: instance}
	if err == nil {
		o.base, err = strconv.ParseUint(base, 10, 64)
	}
	if err != nil || v != version || instance == "" {
		return o, fmt.Errorf("%w: no journal wrote it: header %s is %.80q", ErrDamaged, headerName, text)
	}
	return o, nil
}

// message is one of the stream, as its leader gives it.
type message struct {
	sequence uint64
	header   nats.Header
	data     []byte
}

// errNone: there is no such message.
var errNone = errors.New("no such message")

// get asks the stream's leader for the message at a sequence, or with next for the first one from there on.
func (j *Journal) get(ctx context.Context, sequence uint64, next bool) (*message, error) {
	query := map[string]any{"seq": sequence}
	if next {
		query["next_by_subj"] = j.subject
	}
	body, err := json.Marshal(query)
	if err != nil {
		return nil, err
	}
	reply, err := j.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+j.name, body)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Sequence uint64 `json:"seq"`
			Header   []byte `json:"hdrs"`
			Data     []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return nil, err
	}
	switch {
	case answer.Error != nil && answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, errNone
	case answer.Error != nil:
		return nil, answer.Error
	case answer.Message == nil:
		return nil, errors.New("the server's answer has no message")
	}
	m := &message{sequence: answer.Message.Sequence, data: answer.Message.Data}
	if len(answer.Message.Header) > 0 {
		if m.header, err = nats.DecodeHeadersMsg(answer.Message.Header); err != nil {
			return nil, j.at(m.sequence, fmt.Errorf("%w: its headers: %w", ErrDamaged, err))
		}
	}
	return m, nil
}

// at says at which message something was wrong, and what to do about what is no message of a journal.
func (j *Journal) at(sequence uint64, err error) error {
	if errors.Is(err, ErrDamaged) {
		return fmt.Errorf("stream %s, sequence %d: %w: if it does not belong there, remove it with `nats stream rmm %s %d`, and start again",
			j.name, sequence, err, j.name, sequence)
	}
	return fmt.Errorf("stream %s, sequence %d: %w", j.name, sequence, err)
}

// window is how many messages are asked for at once when the journal is read.
const window = 32

// read takes the messages from one sequence to another into the state. Those that are missing were trimmed.
func (j *Journal) read(ctx context.Context, from, to uint64) error {
	for ; from <= to; from += window {
		n := int(min(window, to-from+1))
		var read [window]*message
		var errs [window]error
		var asking sync.WaitGroup
		for i := range n {
			asking.Go(func() {
				errs[i] = streams.Persist(ctx, func(ctx context.Context) (err error) {
					read[i], err = j.get(ctx, from+uint64(i), false)
					return err
				})
			})
		}
		asking.Wait()
		for i := range n {
			if errors.Is(errs[i], errNone) {
				continue
			}
			if errs[i] != nil {
				return fmt.Errorf("stream %s, sequence %d: %w", j.name, from+uint64(i), errs[i])
			}
			if err := j.take(read[i]); err != nil {
				return j.at(read[i].sequence, err)
			}
		}
		j.state.last = max(j.state.last, from+uint64(n)-1)
	}
	return nil
}

// take reads one message into the state.
func (j *Journal) take(m *message) error {
	o, err := parseOrigin(m.header)
	if err != nil {
		return err
	}
	var records []record
	for line := range bytes.Lines(m.data) {
		r, err := parseRecord(bytes.TrimSuffix(line, newline))
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		records = append(records, r)
	}
	if m.sequence != o.base+1 {
		j.log.WithField("sequence", m.sequence).WithField("instance", o.instance).Warn("a message of an instance that had been superseded is passed over")
	}
	j.state.message(m.sequence, o.base, records, j.now())
	return nil
}

var newline = []byte{'\n'}
