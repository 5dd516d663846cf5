// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// Timeline is all that a shard's log and leader know of one transaction.
type Timeline struct {
	Tx    messages.ID `json:"tx"`
	Shard int         `json:"shard"`
	// Outcome is "committed", "aborted" or "undecided".
	Outcome     string `json:"outcome"`
	Participant string `json:"participant,omitempty"` // who refused
	Reason      string `json:"reason,omitempty"`
	// WrongOwner is the epoch of Participant's ring, if it refused because a key has moved; Next is then the id under
	// which the client tries again, whether or not it has.
	WrongOwner uint64      `json:"wrong_owner,omitempty"`
	Next       messages.ID `json:"next,omitzero"`
	// Conflict: Participant refused because the transaction met another one on a key; the client may try again.
	Conflict bool       `json:"conflict,omitempty"`
	Finished bool       `json:"finished"`
	Expires  *time.Time `json:"expires,omitempty"`
	// Owed are the participants that have not said the outcome to be done.
	Owed    []string        `json:"owed,omitempty"`
	Records []TimelineEntry `json:"records"`
}

// TimelineEntry is one record of the log.
type TimelineEntry struct {
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"`
	// Kind is prepare, vote, abort or finished; Writer "coordinator" or the participant; To the participant that a prepare
	// is for.
	Kind   string `json:"kind"`
	Writer string `json:"writer"`
	To     string `json:"to,omitempty"`
	// Record is the record as it stands in the log.
	Record json.RawMessage `json:"record"`
}

// show is a transaction's timeline, from the log.
func (c *Coordinator) show(ctx context.Context, req *TxRequest) (any, error) {
	shard, err := c.shardOf(req.Tx)
	if err != nil {
		return nil, err
	}
	return askShard(ctx, c, shard, "tx.show", req, (*leader).show)
}

func (l *leader) show(ctx context.Context, req *TxRequest) (*Timeline, error) {
	// The leader first: what it has read is in the log that is searched then.
	var led protocol.View
	var leads bool
	var owed []string
	err := l.whileLeading(ctx, func() {
		led, leads = l.fold.View(req.Tx)
		owed = l.delivery.Owed(req.Tx, nil)
	})
	if err != nil {
		return nil, err
	}
	found, err := l.search(ctx, req.Tx)
	if err != nil {
		return nil, err
	}
	records, view, known := found.records, found.view, found.known
	if leads { // it knows better than a reader who may have come too late
		view, known = led, true
	} else if doubt, err := l.doubt(ctx, req.Tx, found); err != nil {
		return nil, err
	} else if doubt != "" {
		view.Outcome, view.Participant, view.Reason, view.WrongOwner, view.Conflict = messages.Undecided, "", doubt, 0, false // by these records
	}
	timeline := &Timeline{Tx: req.Tx, Shard: l.shard, Owed: owed, Records: records}
	if !known && len(records) == 0 {
		return nil, &apiError{codeNotFound, fmt.Sprintf("transaction %s: not in the log of shard %d: it never reached it, or is older than the history that is kept", req.Tx, l.shard)}
	}
	timeline.Outcome, timeline.Participant, timeline.Reason = view.Outcome.String(), view.Participant, view.Reason
	if timeline.WrongOwner = view.WrongOwner; view.WrongOwner != 0 {
		timeline.Next = req.Tx.Next()
	}
	timeline.Conflict, timeline.Finished = view.Conflict, view.Finished
	if view.Expires != 0 {
		expires := time.UnixMilli(view.Expires).UTC()
		timeline.Expires = &expires
	}
	return timeline, nil
}

// foldFrom is a fold that reads the log from a message on.
func foldFrom(meta *jetstream.MsgMetadata) *protocol.Fold {
	return protocol.NewFold(protocol.FoldConfig{}, protocol.Checkpoint{Sequence: meta.Sequence.Stream})
}

func timelineEntry(meta *jetstream.MsgMetadata, kind messages.Kind, participant string, line []byte) TimelineEntry {
	e := TimelineEntry{Sequence: meta.Sequence.Stream, Time: meta.Timestamp.UTC(), Kind: kind.String(), Writer: "coordinator"}
	switch kind {
	case messages.KindVote:
		e.Writer = participant
	case messages.KindPrepare:
		e.To = participant
	default:
	}
	if json.Valid(line) {
		e.Record = slices.Clone(line)
	} else {
		e.Record, _ = json.Marshal(string(line)) // a string always marshals
	}
	return e
}

// read gives the messages of the log from a time on to where it ends now, until visit is false.
func (l *leader) read(ctx context.Context, from time.Time, visit func(jetstream.Msg, *jetstream.MsgMetadata) bool) error {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	if info.State.Msgs == 0 || info.State.LastTime.Before(from) {
		return nil
	}
	consumer, err := l.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from,
	})
	if err != nil {
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(messages.MaxRecords, tailBytes))
	if err != nil {
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	defer iterator.Stop()
	for {
		msg, err := iterator.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("log of shard %d: %w", l.shard, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("log of shard %d: %w", l.shard, err)
		}
		if !visit(msg, meta) || meta.Sequence.Stream >= info.State.LastSeq {
			return nil
		}
	}
}

// ListRequest asks for a shard's transactions.
type ListRequest struct {
	// History asks for finished ones too, from the log.
	History bool `json:"history,omitempty"`
	// Limit is how many, 1 to 10,000; default 100. Of finished ones these are the newest.
	Limit int `json:"limit,omitempty"`
}

// ListResponse is a list of transactions, oldest first.
type ListResponse struct {
	Transactions []TxSummary `json:"transactions"`
	// Open is how many are not finished, listed or not.
	Open int `json:"open"`
}

// TxSummary is a transaction in a list.
type TxSummary struct {
	Tx          messages.ID `json:"tx"`
	Shard       int         `json:"shard"`
	Outcome     string      `json:"outcome"`
	Participant string      `json:"participant,omitempty"` // who refused
	Reason      string      `json:"reason,omitempty"`
	// WrongOwner is the epoch of Participant's ring, if it refused because a key has moved.
	WrongOwner uint64 `json:"wrong_owner,omitempty"`
	// Conflict: Participant refused because the transaction met another one on a key.
	Conflict     bool     `json:"conflict,omitempty"`
	Finished     bool     `json:"finished"`
	Participants []string `json:"participants,omitempty"`
	// Owed are the participants that have not voted, or not said the outcome to be done.
	Owed    []string  `json:"owed,omitempty"`
	Started time.Time `json:"started"`
	Expires time.Time `json:"expires"`
}

const maxList = 10_000

func (c *Coordinator) list(ctx context.Context, req *ListRequest) (any, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	response := &ListResponse{Transactions: []TxSummary{}}
	for shard := range c.leaders {
		part, err := askShard(ctx, c, shard, "tx.list", req, (*leader).list)
		if err != nil {
			return nil, err
		}
		response.Open += part.Open
		response.Transactions = append(response.Transactions, part.Transactions...)
	}
	response.cut(req)
	return response, nil
}

func (r *ListRequest) check() error {
	orDefault(&r.Limit, 100)
	if r.Limit < 1 || r.Limit > maxList {
		return badRequest("limit %d: want 1 to %d", r.Limit, maxList)
	}
	return nil
}

// list is one shard's part of a list, which has no more than the whole.
func (l *leader) list(ctx context.Context, req *ListRequest) (*ListResponse, error) {
	if err := req.check(); err != nil {
		return nil, err
	}
	response := &ListResponse{Transactions: []TxSummary{}}
	if err := l.whileLeading(ctx, func() { l.listOpen(response) }); err != nil {
		return nil, err
	}
	if req.History {
		if err := l.listFinished(ctx, req.Limit, response); err != nil {
			return nil, err
		}
	}
	response.cut(req)
	return response, nil
}

// cut sorts the list and shortens it to the limit: of a history the newest stay, else the oldest.
func (r *ListResponse) cut(req *ListRequest) {
	slices.SortFunc(r.Transactions, func(a, b TxSummary) int { return bytes.Compare(a.Tx[:], b.Tx[:]) })
	over := len(r.Transactions) - req.Limit
	switch {
	case over <= 0:
	case req.History:
		r.Transactions = r.Transactions[over:]
	default:
		r.Transactions = r.Transactions[:req.Limit]
	}
}

func (l *leader) listOpen(response *ListResponse) {
	for view := range l.fold.Open() {
		response.Open++
		response.Transactions = append(response.Transactions, l.summary(&view, l.delivery.Owed(view.Tx, nil)))
	}
}

func (l *leader) summary(view *protocol.View, owed []string) TxSummary {
	s := TxSummary{
		Tx: view.Tx, Shard: l.shard, Outcome: view.Outcome.String(), Participant: view.Participant, Reason: view.Reason,
		WrongOwner: view.WrongOwner, Conflict: view.Conflict, Finished: view.Finished, Started: view.Tx.Time().UTC(), Expires: time.UnixMilli(view.Expires).UTC(), Owed: owed,
	}
	for _, b := range view.Branches {
		s.Participants = append(s.Participants, b.Participant)
		if view.Outcome == messages.Undecided && b.Vote == 0 {
			s.Owed = append(s.Owed, b.Participant)
		}
	}
	return s
}

// listFinished folds the history once more and lists what ended in it, the newest at the most limit; not what may have begun before it: see found.
func (l *leader) listFinished(ctx context.Context, limit int, response *ListResponse) error {
	var fold *protocol.Fold
	var begins time.Time // zero: nothing was trimmed
	var ended []messages.ID
	err := l.read(ctx, time.Unix(0, 0), func(msg jetstream.Msg, meta *jetstream.MsgMetadata) bool {
		if fold == nil {
			fold = foldFrom(meta)
			if meta.Sequence.Stream > 1 {
				begins = meta.Timestamp
			}
		}
		kind, participant := l.subjects.ParseLog(l.shard, msg.Subject())
		if fold.Message(meta.Sequence.Stream, meta.Timestamp.UnixMilli(), kind, participant, msg.Data()) != nil {
			return false
		}
		for _, e := range fold.Take() {
			if e.Kind == protocol.Finished {
				ended = append(ended, e.Tx)
			}
		}
		if len(ended) > 2*limit {
			ended = append(ended[:0], ended[len(ended)-limit:]...)
		}
		return true
	})
	for _, tx := range ended[max(0, len(ended)-limit):] {
		if view, ok := fold.View(tx); ok && view.Finished && !tx.Time().Add(-searchBefore).Before(begins) {
			response.Transactions = append(response.Transactions, l.summary(&view, nil))
		}
	}
	return err
}
