// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// abort writes an abort record for a transaction that is undecided, and tells how it ended: perhaps committed, if that
// came first.
func (c *Coordinator) abort(ctx context.Context, req *TxRequest) (any, error) {
	shard, err := c.shardOf(req.Tx)
	if err != nil {
		return nil, err
	}
	return askShard(ctx, c, shard, "tx.abort", req, (*leader).abort)
}

func (l *leader) abort(ctx context.Context, req *TxRequest) (*OutcomeResponse, error) {
	reason := req.Reason
	if reason == "" {
		reason = "operator"
	}
	var known bool
	err := l.whileLeading(ctx, func() {
		var verdict protocol.Verdict
		verdict, known = l.fold.Lookup(req.Tx)
		known = known || l.live[req.Tx] != nil
		if known && verdict.Outcome == messages.Undecided {
			l.appendAbort(req.Tx, reason)
		}
	})
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, &apiError{codeNotFound, fmt.Sprintf("transaction %s is not open", req.Tx)}
	}
	return l.outcome(ctx, req.Tx)
}

// OutcomeResponse tells how a transaction ended.
type OutcomeResponse struct {
	Tx          messages.ID `json:"tx"`
	Outcome     string      `json:"outcome"`
	Participant string      `json:"participant,omitempty"`
	Reason      string      `json:"reason,omitempty"`
	// WrongOwner is the epoch of Participant's ring, if it refused because a key has moved.
	WrongOwner uint64 `json:"wrong_owner,omitempty"`
	// Conflict: Participant refused because the transaction met another one on a key.
	Conflict bool `json:"conflict,omitempty"`
}

// outcome waits for a transaction's outcome, through the leader's own door.
func (l *leader) outcome(ctx context.Context, tx messages.ID) (*OutcomeResponse, error) {
	msg, err := l.nc.RequestWithContext(ctx, l.subjects.Wait(l.shard), messages.AppendWait(nil, &messages.Wait{Tx: tx}))
	if err != nil {
		return nil, fmt.Errorf("the outcome of %s: %w", tx, err)
	}
	var decoder messages.Decoder
	var answer messages.Answer
	for line := range messages.Lines(msg.Data) {
		if err := decoder.Answer(line, &answer); err != nil {
			return nil, err
		}
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("the outcome of %s: %s", tx, answer.Message)
	}
	return &OutcomeResponse{
		Tx: tx, Outcome: answer.Outcome.String(), Participant: answer.Participant, Reason: answer.Reason, WrongOwner: answer.WrongOwner,
		Conflict: answer.Conflict,
	}, nil
}

// RetryResponse says what a retry did.
type RetryResponse struct {
	Tx messages.ID `json:"tx"`
	// Sent are the participants that the outcome was sent to again.
	Sent []string `json:"sent"`
}

// retry sends a decided transaction's outcome again, now, to who has not said it to be done.
func (c *Coordinator) retry(ctx context.Context, req *TxRequest) (any, error) {
	shard, err := c.shardOf(req.Tx)
	if err != nil {
		return nil, err
	}
	return askShard(ctx, c, shard, "tx.retry", req, (*leader).retry)
}

func (l *leader) retry(ctx context.Context, req *TxRequest) (*RetryResponse, error) {
	response := &RetryResponse{Tx: req.Tx, Sent: []string{}}
	var known bool
	err := l.whileLeading(ctx, func() {
		_, known = l.fold.Lookup(req.Tx)
		response.Sent = l.delivery.Owed(req.Tx, response.Sent)
		l.delivery.Retry(req.Tx)
	})
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, &apiError{codeNotFound, fmt.Sprintf("transaction %s is not open", req.Tx)}
	}
	return response, nil
}

// ParticipantsResponse lists every participant that has registered, by name.
type ParticipantsResponse struct {
	Participants []ParticipantInfo `json:"participants"`
}

// ParticipantInfo is one participant, over all shards.
type ParticipantInfo struct {
	Name string `json:"name"`
	// Instances answer right now.
	Instances int `json:"instances"`
	// PendingPrepares are messages of prepares that it has not answered.
	PendingPrepares int `json:"pending_prepares"`
	// PendingOutcomes are transactions whose outcome it has not said to be done.
	PendingOutcomes int `json:"pending_outcomes"`
	// InDoubt are transactions that it voted yes for and whose outcome it may not know: undecided, or not yet done.
	InDoubt int `json:"in_doubt"`
	// OldestSeconds is the age of the oldest pending outcome; 0 when there is none.
	OldestSeconds float64 `json:"oldest_seconds"`
}

func (c *Coordinator) participants(ctx context.Context, req *struct{}) (any, error) {
	response := &ParticipantsResponse{Participants: []ParticipantInfo{}}
	instances, err := c.instances(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range c.registry.list() {
		response.Participants = append(response.Participants, ParticipantInfo{Name: name, Instances: instances[name]})
	}
	for shard := range c.leaders {
		part, err := askShard(ctx, c, shard, "participants", req, (*leader).describe)
		if err != nil {
			return nil, err
		}
		for i := range part.Participants {
			response.add(&part.Participants[i])
		}
	}
	return response, nil
}

// add takes over what one shard's leader knows of a participant, if it is known here.
func (r *ParticipantsResponse) add(part *ParticipantInfo) {
	i, ok := findParticipant(r.Participants, part.Name)
	if !ok {
		return
	}
	p := &r.Participants[i]
	p.PendingPrepares += part.PendingPrepares
	p.PendingOutcomes += part.PendingOutcomes
	p.InDoubt += part.InDoubt
	p.OldestSeconds = max(p.OldestSeconds, part.OldestSeconds)
}

func findParticipant(sorted []ParticipantInfo, name string) (int, bool) {
	return slices.BinarySearchFunc(sorted, name, func(p ParticipantInfo, name string) int { return strings.Compare(p.Name, name) })
}

// describe tells what one shard knows of the participants.
func (l *leader) describe(ctx context.Context, _ *struct{}) (*ParticipantsResponse, error) {
	response := &ParticipantsResponse{}
	for _, name := range l.registry.list() {
		info := ParticipantInfo{Name: name}
		consumer, err := l.stream.Consumer(ctx, name)
		switch {
		case err == nil:
			state := consumer.CachedInfo()
			info.PendingPrepares = int(state.NumPending) + state.NumAckPending
		case !errors.Is(err, jetstream.ErrConsumerNotFound): // deleted: the participant's next registration makes it anew
			return nil, fmt.Errorf("consumer of %s on shard %d: %w", name, l.shard, err)
		}
		response.Participants = append(response.Participants, info)
	}
	at := func(name string) *ParticipantInfo {
		i, ok := findParticipant(response.Participants, name)
		if !ok {
			return &ParticipantInfo{}
		}
		return &response.Participants[i]
	}
	return response, l.whileLeading(ctx, func() {
		now := nowMilli()
		for _, debt := range l.delivery.Debts(nil) {
			p := at(debt.Participant)
			p.PendingOutcomes += debt.Outcomes
			p.InDoubt += debt.Voted
			p.OldestSeconds = max(p.OldestSeconds, float64(now-debt.Since)/1000)
		}
		for view := range l.fold.Open() {
			countInDoubt(&view, at)
		}
	})
}

func countInDoubt(view *protocol.View, at func(string) *ParticipantInfo) {
	if view.Outcome != messages.Undecided {
		return
	}
	for _, b := range view.Branches {
		if b.Vote == messages.VoteYes {
			at(b.Participant).InDoubt++
		}
	}
}

// pingPatience is how long instances have to answer a ping.
const pingPatience = 250 * time.Millisecond

// instances counts the instances of each participant that answer a ping.
func (c *Coordinator) instances(ctx context.Context) (map[string]int, error) {
	subject, err := micro.ControlSubject(micro.PingVerb, messages.InstanceService, "")
	if err != nil {
		return nil, err
	}
	inbox := c.nc.NewInbox()
	subscription, err := c.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer func() { _ = subscription.Unsubscribe() }() // its only error is of a connection that is gone
	if err := c.nc.PublishRequest(subject, inbox, nil); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pingPatience)
	defer cancel()
	counts := make(map[string]int)
	for {
		msg, err := subscription.NextMsgWithContext(ctx)
		if err != nil {
			return counts, nil // time is up, or nobody is there
		}
		if name, ok := instanceOf(msg); ok {
			counts[name]++
		}
	}
}

func instanceOf(msg *nats.Msg) (participant string, ok bool) {
	var ping micro.Ping
	if err := json.Unmarshal(msg.Data, &ping); err != nil {
		return "", false
	}
	participant, ok = ping.Metadata[messages.InstanceKey]
	return participant, ok
}
