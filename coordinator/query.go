// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
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

// searchBefore is how much earlier than an id's time the log is searched: clients' clocks may be ahead by the tolerance.
const searchBefore = 2 * protocol.AcceptAhead * time.Millisecond

// found is what the log's history has of a transaction.
type found struct {
	records []TimelineEntry
	view    protocol.View
	known   bool
	// whole: the history begins before the transaction may have. Else it may have been trimmed in the middle of it, and what is left of it may
	// tell anything: that its time was up, say, where a vote that came in time is trimmed.
	whole bool
	// begin and end are the sequences from which on and up to which the log was read.
	begin, end uint64
}

// search reads the log for the records of one transaction, from the time that its id tells to where the log ends now.
func (l *leader) search(ctx context.Context, tx messages.ID) (found, error) {
	var f found
	var fold *protocol.Fold
	text := []byte(tx.String())
	err := l.read(ctx, tx.Time().Add(-searchBefore), func(msg jetstream.Msg, meta *jetstream.MsgMetadata) (goOn bool) {
		if fold == nil {
			fold = foldFrom(meta)
			fold.Replay()
			f.begin = meta.Sequence.Stream
		}
		kind, participant := l.subjects.ParseLog(l.shard, msg.Subject())
		var own []byte // the records of tx alone: nothing else bears on its outcome, but the message's time and the floor (see doubt)
		for line := range messages.Lines(msg.Data()) {
			if bytes.Contains(line, text) {
				own = append(append(own, line...), '\n')
				f.records = append(f.records, timelineEntry(meta, kind, participant, line))
			}
		}
		if fold.Message(meta.Sequence.Stream, meta.Timestamp.UnixMilli(), kind, participant, own) != nil {
			return false
		}
		f.end = meta.Sequence.Stream
		f.view, f.known = fold.View(tx)
		return !f.known || !f.view.Finished // of an unknown one a view says finished
	})
	if err != nil || !f.known {
		return f, err
	}
	info, err := l.stream.Info(ctx) // after it was read: it may be trimmed at any time
	if err != nil {
		return f, fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	f.whole = f.begin == 1 || info.State.FirstSeq < f.begin
	return f, nil
}

// Why what the history has of a transaction does not count.
const (
	tooLate = "its prepares came too late to be told from those of one that was forgotten: they do not count, whatever was voted"
	theRest = "the log's history begins in the middle of it, or shortly before it: what is left does not tell how it ended"
)

// errBehind is of a leader that has not read yet what a search has found.
var errBehind = errors.New("the leader has not read all of the log yet")

// counts tells whether what a search has found tells how the transaction ended, whatever the leader knows. What is whole, and neither noted as
// finished nor aborted, may be prepares that came too late to count: see doubt.
func (f *found) counts() bool {
	return f.whole && (f.view.Finished || f.view.Outcome == messages.Aborted) // which late ones are, too
}

// doubt tells why what a search has found does not count, "" if it does. Prepares that came too late all readers of the log have ignored, for
// the id is not above their floor, which a search does not know. So a leader that has read as far knows nothing of the transaction, and nobody
// has noted that it is finished, as is noted of each that has been committed before it is forgotten.
func (l *leader) doubt(ctx context.Context, tx messages.ID, f found) (why string, err error) {
	if !f.known || f.counts() {
		return "", nil
	}
	for {
		var open, behind bool
		if err := l.whileLeading(ctx, func() {
			_, open = l.fold.Lookup(tx)
			behind = l.fold.Sequence() < f.end
		}); err != nil {
			return "", err
		}
		switch {
		case open:
			return "", nil
		case !behind:
			return f.ignored(), nil
		case !streams.Pause(ctx, behindPause):
			return "", errBehind
		}
	}
}

// ignored is why what was found does not count, of a transaction that a leader does not know who has read as much.
func (f *found) ignored() string {
	if !f.whole {
		return theRest
	}
	return tooLate
}

// behindPause is how long a leader is given that has not read yet what a search has found, before it is asked again.
const behindPause = 10 * time.Millisecond

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

// searchHistory answers one who waits for a transaction that the leader does not know, from the log's history.
func (l *leader) searchHistory(w *messages.Wait, reply string) {
	wait, tx := *w, w.Tx
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
		defer cancel()
		f, err := l.search(ctx, tx)
		answer := &messages.Answer{Tx: tx, Outcome: f.view.Outcome, Participant: f.view.Participant, Reason: f.view.Reason,
			WrongOwner: f.view.WrongOwner, Conflict: f.view.Conflict}
		switch {
		case err != nil:
			answer = tryAgain(tx, err.Error())
		case !f.known:
			answer.Error = messages.CodeNotFound
			answer.Message = "neither the coordinator nor the log's history knows the transaction"
		}
		_ = l.inLeader(ctx, func() { // who asked asks again
			if !l.leading {
				l.publish(reply, "", messages.AppendAnswer(nil, tryAgain(tx, steppingDown)))
				return
			}
			if _, open := l.fold.Lookup(tx); open { // it came between the question and the search
				l.wait(&wait, reply)
				return
			}
			switch {
			case err != nil || !f.known || f.counts():
			case l.fold.Sequence() < f.end:
				answer = tryAgain(tx, errBehind.Error())
			default: // see doubt
				answer = &messages.Answer{Tx: tx, Error: messages.CodeNotFound, Message: f.ignored()}
			}
			l.answer(reply, answer)
		})
	}()
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
