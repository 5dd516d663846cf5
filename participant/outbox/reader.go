// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	patient "github.com/assent-tx/assent/internal/streams" // this package has streams of its own
)

// reader reads the ids of a stream's messages. It asks the stream's leader for each message by its sequence: a consumer may be at
// a replica that is behind, and a work queue or interest stream would not bear one.
type reader struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	stream string
}

// bounds asks a stream from where to where it goes.
func (r *reader) bounds(ctx context.Context) (created time.Time, first, last uint64, err error) {
	stream, err := patient.Find(ctx, r.js, r.stream)
	if err != nil {
		return time.Time{}, 0, 0, err
	}
	info := stream.CachedInfo()
	return info.Created, info.State.FirstSeq, info.State.LastSeq, nil
}

const (
	// chunk is how many messages are asked for before what they were is looked at.
	chunk = 512
	// abreast is how many requests are under way.
	abreast = 32
)

// ids reads some messages from a sequence on, not beyond another, and gives each to note, in order. It returns how many.
func (r *reader) ids(ctx context.Context, from, to uint64, note func(sequence uint64, there bool, id string)) (uint64, error) {
	n := min(to-from+1, chunk)
	got := make([]struct {
		there bool
		id    string
		err   error
	}, n)
	var asking sync.WaitGroup
	for lane := range min(n, abreast) {
		asking.Go(func() {
			for i := lane; i < n; i += abreast {
				got[i].there, got[i].id, got[i].err = r.id(ctx, from+i)
			}
		})
	}
	asking.Wait()
	for i := range got {
		if got[i].err != nil {
			return uint64(i), got[i].err
		}
		note(from+uint64(i), got[i].there, got[i].id)
	}
	return n, nil
}

// id asks for one message's id: "" if it has none.
func (r *reader) id(ctx context.Context, sequence uint64) (there bool, id string, err error) {
	request := fmt.Sprintf(`{"seq":%d}`, sequence)
	var reply *nats.Msg
	err = patient.Persist(ctx, func(ctx context.Context) (err error) {
		reply, err = r.nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+r.stream, []byte(request))
		return err
	})
	if err != nil {
		return false, "", err
	}
	var response struct {
		Message *struct {
			Header []byte `json:"hdrs"`
		} `json:"message"`
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(reply.Data, &response); err != nil {
		return false, "", err
	}
	switch {
	case response.Error != nil && response.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return false, "", nil
	case response.Error != nil:
		return false, "", response.Error
	case response.Message == nil:
		return false, "", errors.New("an empty answer")
	case len(response.Message.Header) == 0:
		return true, "", nil
	}
	header, err := nats.DecodeHeadersMsg(response.Message.Header)
	return true, header.Get(nats.MsgIdHdr), err
}
