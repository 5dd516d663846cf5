// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// bank is a participant as protocol.md tells one to write it, in the terms that every NATS client has: publish,
// subscribe, request. It uses no package of Assent's, so that it shows whether the document suffices.
//
// It leaves out what makes a participant fast and patient (batches, several prepares at once), not what makes it safe.
type bank struct {
	name   string
	nc     *nats.Conn
	store  *store
	refuse func(payload json.RawMessage) string // why it refuses, "" if it does not
	before func()                               // runs before each vote
	voted  func()                               // runs when the log has it
	deaf   bool                                 // hears no outcome

	stop    chan struct{}
	running sync.WaitGroup
	subs    []*nats.Subscription
	votes   int
}

// store stands for the bank's database: whatever is in it is durable.
type store struct {
	mu sync.Mutex
	// prepared are the branches that can go either way, with the shard of each.
	prepared map[string]int
	// over are the transactions whose outcome was applied here: true for committed.
	over map[string]bool
	// applied hears of every outcome that was new.
	applied chan string
}

func newStore() *store {
	return &store{prepared: make(map[string]int), over: make(map[string]bool), applied: make(chan string, 16)}
}

// The records that a participant reads. Unknown fields make a record malformed.
type prepareRecord struct {
	V            int      `json:"v"`
	Tx           string   `json:"tx"`
	Participants []string `json:"participants"`
	Expires      int64    `json:"expires"`
	Since        int64    `json:"since"`
	Locks        []struct {
		Key   string `json:"key"`
		Token string `json:"token"`
	} `json:"locks"`
	Operations []struct {
		Keys    []string        `json:"keys"`
		Shared  []string        `json:"shared"`
		Payload json.RawMessage `json:"payload"`
	} `json:"operations"`
	Trace string `json:"trace"`
}

type outcomeRecord struct {
	V       int    `json:"v"`
	Tx      string `json:"tx"`
	Vote    uint64 `json:"vote"`
	Expires int64  `json:"expires"`
}

func decode(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

// begin follows "A participant, step by step": outcomes first, then the registration, the votes of what is in doubt, and
// the prepares.
func (b *bank) begin() error {
	b.stop = make(chan struct{})
	for verb, commit := range map[string]bool{"commit": true, "rollback": false} {
		sub, err := b.nc.QueueSubscribe("assent."+verb+".*."+b.name, b.name, func(msg *nats.Msg) { b.onOutcome(msg, commit) })
		if err != nil {
			return err
		}
		b.subs = append(b.subs, sub)
	}
	answer, err := b.register()
	if err != nil {
		return err
	}
	if text := answer.Header.Get("Nats-Service-Error"); text != "" {
		return errors.New(text)
	}
	var shards struct {
		Shards []struct {
			Stream   string `json:"stream"`
			Consumer string `json:"consumer"`
		} `json:"shards"`
	}
	if err := json.Unmarshal(answer.Data, &shards); err != nil {
		return err
	}
	for tx, shard := range b.store.inDoubt() {
		if err := b.vote(shard, tx, "yes", "", false); err != nil {
			return err
		}
	}
	for shard, log := range shards.Shards {
		b.running.Go(func() { b.pull(shard, log.Stream, log.Consumer) })
	}
	return nil
}

// register asks until a coordinator answers.
func (b *bank) register() (answer *nats.Msg, err error) {
	for range 100 {
		answer, err = b.nc.Request("assent.api.register", fmt.Appendf(nil, `{"name":%q,"instance":"1"}`, b.name), 5*time.Second)
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrTimeout) {
			return answer, err
		}
		<-time.After(100 * time.Millisecond)
	}
	return nil, err
}

// end stops the bank as a crash would: what is in its store stays there.
func (b *bank) end() {
	close(b.stop)
	for _, sub := range b.subs {
		_ = sub.Unsubscribe() // the connection may be gone
	}
	b.nc.Close()
	b.running.Wait()
}

func (b *bank) pull(shard int, stream, consumer string) {
	inbox := b.nc.NewInbox()
	prepares, err := b.nc.SubscribeSync(inbox)
	if err != nil {
		return
	}
	for {
		select {
		case <-b.stop:
			return
		default:
		}
		// One message at a time, for at most 30 seconds (in nanoseconds).
		request := []byte(`{"batch":1,"expires":30000000000}`)
		if b.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+stream+"."+consumer, inbox, request) != nil {
			return
		}
		msg, err := prepares.NextMsg(31 * time.Second)
		if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
			return
		}
		if err != nil || msg.Header.Get("Status") != "" { // no prepare came: pull again
			continue
		}
		if b.onPrepares(shard, msg) {
			_ = msg.Respond([]byte("+ACK")) // when this is lost, the prepare comes again
		}
	}
}

// onPrepares tells whether every branch of the message has its answer in the log.
func (b *bank) onPrepares(shard int, msg *nats.Msg) bool {
	all := true
	for line := range bytes.Lines(msg.Data) {
		var p prepareRecord
		if decode(line, &p) != nil || p.V > 1 {
			continue // malformed (this bank is not strict enough to be a model here)
		}
		all = b.onPrepare(shard, &p) == nil && all
	}
	return all
}

func (b *bank) onPrepare(shard int, p *prepareRecord) error {
	if _, over := b.store.outcome(p.Tx); over {
		return nil // nothing is prepared anew after its outcome
	}
	if time.Now().UnixMilli() > p.Expires {
		// Something may be held: another instance may have prepared it. So it is no refusal.
		return b.vote(shard, p.Tx, "no", "the prepare came after its expiry", true)
	}
	for _, op := range p.Operations {
		if reason := b.refuse(op.Payload); reason != "" {
			return b.vote(shard, p.Tx, "no", reason, false)
		}
	}
	b.store.prepare(p.Tx, shard)
	return b.vote(shard, p.Tx, "yes", "", false)
}

// vote returns once the log has the vote. The same bytes go out under the same message id until it is known.
func (b *bank) vote(shard int, tx, vote, reason string, held bool) error {
	record := map[string]any{"tx": tx, "vote": vote}
	if reason != "" {
		record["reason"] = reason
	}
	if held {
		record["held"] = true
	}
	body, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if b.before != nil {
		b.before()
	}
	b.votes++
	msg := nats.NewMsg(fmt.Sprintf("assent.log.%d.vote.%s", shard, b.name))
	msg.Header.Set("Nats-Msg-Id", fmt.Sprintf("%s-1-%d", b.name, b.votes))
	msg.Data = body
	for {
		answer, err := b.nc.RequestMsg(msg, 5*time.Second)
		var ack struct {
			Seq uint64 `json:"seq"`
		}
		if err == nil && json.Unmarshal(answer.Data, &ack) == nil && ack.Seq > 0 {
			if b.voted != nil {
				b.voted()
			}
			return nil
		}
		select {
		case <-b.stop:
			return errors.New("stopped; the vote may be in the log")
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *bank) onOutcome(msg *nats.Msg, commit bool) {
	if b.deaf {
		return
	}
	for line := range bytes.Lines(msg.Data) {
		var o outcomeRecord
		if decode(line, &o) != nil || o.V > 1 {
			continue
		}
		b.store.finish(o.Tx, commit)
		_ = msg.Respond(fmt.Appendf(nil, `{"tx":%q,"vote":%d}`, o.Tx, o.Vote)) // when this is lost, the outcome comes again
	}
}

func (s *store) prepare(tx string, shard int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, over := s.over[tx]; !over {
		s.prepared[tx] = shard
	}
}

// finish applies an outcome: the first for a transaction, whether or not it was prepared here.
func (s *store) finish(tx string, commit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, over := s.over[tx]; !over {
		s.over[tx] = commit
		s.applied <- tx
	}
	delete(s.prepared, tx)
}

func (s *store) outcome(tx string) (commit, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	commit, over = s.over[tx]
	return commit, over
}

func (s *store) inDoubt() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	txs := make(map[string]int)
	for tx, shard := range s.prepared {
		txs[tx] = shard
	}
	return txs
}
