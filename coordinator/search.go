// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
)

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
	all, err := l.searchAll(ctx, []messages.ID{tx})
	if err != nil {
		return found{}, err
	}
	return all[tx].found, nil
}

// sought is a transaction that is searched for.
type sought struct {
	found
	tx   messages.ID
	from time.Time      // when its records may begin
	fold *protocol.Fold // of its records alone: nothing else bears on its outcome, but the messages' times and the floor (see doubt)
	own  []byte         // its records in the message that is read
}

// searchAll reads the log once for the records of some transactions, from the earliest time that an id tells.
func (l *leader) searchAll(ctx context.Context, txs []messages.ID) (map[messages.ID]*sought, error) {
	all, open := make(map[messages.ID]*sought, len(txs)), make([]*sought, 0, len(txs))
	earliest := time.Now()
	for _, tx := range txs {
		if all[tx] == nil {
			all[tx] = &sought{tx: tx, from: tx.Time().Add(-searchBefore)}
			open = append(open, all[tx])
		}
		if all[tx].from.Before(earliest) {
			earliest = all[tx].from
		}
	}
	err := l.read(ctx, earliest, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) (goOn bool) {
		kind, participant := l.subjects.ParseLog(l.shard, msg.Subject())
		for line := range messages.Lines(msg.Data()) {
			if s := soughtIn(line, all); s != nil && s.begins(meta) {
				s.own = append(append(s.own, line...), '\n')
				s.records = append(s.records, timelineEntry(meta, kind, participant, line))
			}
		}
		open = slices.DeleteFunc(open, func(s *sought) bool { return s.over(meta, kind, participant) })
		return len(open) > 0
	})
	if err != nil {
		return nil, err
	}
	info, err := l.stream.Info(ctx) // after it was read: it may be trimmed at any time
	if err != nil {
		return nil, fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	for _, s := range all {
		s.whole = s.begin == 1 || info.State.FirstSeq < s.begin
	}
	return all, nil
}

// begins tells whether a message is one in which there may be records of it, or comes after one.
func (s *sought) begins(meta *jetstream.MsgMetadata) bool {
	return s.fold != nil || !meta.Timestamp.Before(s.from)
}

// over takes a message in, and tells whether no later one can tell more.
func (s *sought) over(meta *jetstream.MsgMetadata, kind messages.Kind, participant string) bool {
	if !s.begins(meta) {
		return false
	}
	if s.fold == nil {
		s.fold = foldFrom(meta)
		s.fold.Replay()
		s.begin = meta.Sequence.Stream
	}
	err := s.fold.Message(meta.Sequence.Stream, meta.Timestamp.UnixMilli(), kind, participant, s.own)
	s.own = nil
	if err != nil {
		return true
	}
	s.end = meta.Sequence.Stream
	s.view, s.known = s.fold.View(s.tx)
	return s.known && s.view.Finished // of an unknown one a view says finished
}

// soughtIn is the one of all that a record is of, nil if it is of none.
func soughtIn(line []byte, all map[messages.ID]*sought) *sought {
	const text = len("00000000-0000-7000-8000-000000000000")
	for rest, more := line, true; more; { // a payload may have such a field, too
		_, rest, more = bytes.Cut(rest, []byte(`"tx"`))
		value := bytes.TrimLeft(rest, " \t:\"")
		if len(value) < text {
			continue
		}
		if id, err := messages.ParseID(string(value[:text])); err == nil && all[id] != nil {
			return all[id]
		}
	}
	return nil
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

// How much the log is searched for those who wait for what the leader does not know. After an outage of clients that may be many at once, for
// transactions that ended meanwhile: who asks while others are searched for is searched for with all that ask then.
const (
	// maxSearches is how many searches run at once, so that one for an old id, which reads much, does not hold up all.
	maxSearches = 4
	// together is how far apart the ids of one search may be: it reads from the oldest.
	together = 5 * time.Minute
	// maxSeekers is how many may wait for a search; a further one is told to ask again.
	maxSeekers = 16_384
)

// seeker is one who waits for a transaction that the leader does not know.
type seeker struct {
	wait  messages.Wait
	reply string
}

// seek has one who waits answered from the log's history.
func (l *leader) seek(w *messages.Wait, reply string) {
	if len(l.seekers) >= maxSeekers {
		l.answer(reply, tryAgain(w.Tx, fmt.Sprintf("%d callers wait for a search of the log already", maxSeekers)))
		return
	}
	l.seekers[seeker{*w, reply}] = struct{}{}
	l.searchHistory()
}

// searchHistory searches for any transaction for which somebody waits, and for all those that are not far from it.
func (l *leader) searchHistory() {
	if l.searches >= maxSearches || len(l.seekers) == 0 {
		return
	}
	var group []seeker
	var txs []messages.ID
	for s := range l.seekers {
		if len(group) == 0 || s.wait.Tx.Time().Sub(txs[0].Time()).Abs() <= together {
			group, txs = append(group, s), append(txs, s.wait.Tx)
			delete(l.seekers, s)
		}
	}
	l.searches++
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	go func() { // a search does not outlive the leader
		select {
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	go func() {
		defer cancel()
		all, err := l.searchAll(ctx, txs)
		_ = l.inLeader(context.Background(), func() { // if it has ended, who asked asks again
			l.searches--
			for i := range group {
				l.answerSeeker(&group[i], all[group[i].wait.Tx], err)
			}
			l.searchHistory()
		})
	}()
}

// answerSeeker tells what a search has found, or why it failed.
func (l *leader) answerSeeker(s *seeker, f *sought, err error) {
	tx := s.wait.Tx
	if !l.leading {
		l.publish(s.reply, "", messages.AppendAnswer(nil, tryAgain(tx, steppingDown)))
		return
	}
	_, open := l.fold.Lookup(tx)
	switch {
	case open: // it came between the question and the search
		l.wait(&s.wait, s.reply)
	case err != nil:
		l.answer(s.reply, tryAgain(tx, err.Error()))
	case !f.known:
		l.answer(s.reply, notFound(tx, "neither the coordinator nor the log's history knows the transaction"))
	case f.counts():
		l.answer(s.reply, &messages.Answer{Tx: tx, Outcome: f.view.Outcome, Participant: f.view.Participant, Reason: f.view.Reason,
			WrongOwner: f.view.WrongOwner, Conflict: f.view.Conflict})
	case l.fold.Sequence() < f.end:
		l.answer(s.reply, tryAgain(tx, errBehind.Error()))
	default: // see doubt
		l.answer(s.reply, notFound(tx, f.ignored()))
	}
}

func notFound(tx messages.ID, why string) *messages.Answer {
	return &messages.Answer{Tx: tx, Error: messages.CodeNotFound, Message: why}
}
