// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/messages"
)

// refuser refuses everything.
type refuser struct{}

var errRefuser = errors.New("not today")

func (refuser) Prepare(context.Context, *Branch) (Vote, error) { return 0, Refuse(errRefuser) }
func (refuser) Commit(context.Context, messages.ID) error      { return nil }
func (refuser) Rollback(context.Context, messages.ID) error    { return nil }
func (refuser) InDoubt(context.Context) ([]Prepared, error)    { return nil, nil }

// prepareMsg is a message of prepares that nobody sent.
type prepareMsg struct {
	jetstream.Msg
	body []byte
}

func (m prepareMsg) Data() []byte { return m.body }
func (prepareMsg) Metadata() (*jetstream.MsgMetadata, error) {
	return nil, jetstream.ErrNotJSMessage
}
func (prepareMsg) Ack() error { return nil }

// The log is away, votes fill their lane, and who ticks waits for room in it, as do all others. When the log is back, the first vote that is stored, a
// refusal, gives its keys to a branch that has waited too long. That one's no must not wait for room in the lane in the goroutine that
// makes it: no vote would ever leave again.
func TestWhoStoresVotesWaitsForNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(&nats.Conn{}, Config{Name: "a", Handler: refuser{}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		away, stored := make(chan struct{}), make(chan string, 16)
		sequence := uint64(0)
		p.votes = groupcommit.New(ctx, groupcommit.Config[messages.ID]{
			Send: func(ctx context.Context, _ string, body []byte) (uint64, error) {
				select {
				case <-away:
				case <-ctx.Done():
					return 0, ctx.Err()
				}
				stored <- string(body)
				sequence++
				return sequence, nil
			},
			Settled: p.voted, MaxRecords: 1, MaxQueue: 1,
		})
		p.dones = groupcommit.New(ctx, groupcommit.Config[struct{}]{Send: func(context.Context, string, []byte) (uint64, error) { return 0, nil }})
		p.marks.shards = []watermark{{votes: "votes"}}
		prepare := func(timeout time.Duration, keys ...string) {
			body := messages.AppendPrepare(nil, &messages.Prepare{
				Tx: messages.NewID(), Participants: []string{"a", "b"}, Expires: time.Now().Add(timeout).UnixMilli(),
				Operations: []messages.Operation{{Keys: keys, Payload: []byte(`1`)}},
			})
			p.onPrepare(0, prepareMsg{body: body})
			synctest.Wait()
		}
		prepare(time.Hour, "k")      // its refusal is under way, and it has its key until that is stored
		prepare(10*time.Second, "k") // waits for the key
		prepare(time.Hour)           // its refusal fills the lane
		time.Sleep(time.Minute)      //nolint:forbidigo // the bubble's clock
		close(away)
		synctest.Wait()
		p.tick()
		synctest.Wait()
		if len(stored) != 3 {
			t.Errorf("%d votes are stored, want all 3", len(stored))
		}
		p.caller.close()
		p.caller.wait()
	})
}
