// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// newest remembers what a participant's newest message of votes told, for who registers again and again.
type newest struct {
	sequence  uint64 // of the message
	committed messages.ID
}

// newestTime is how long a registration looks for the newest that was committed.
const newestTime = 2 * time.Second

// tellNewest adds to each shard what newestCommitted says of it; to none if it does not learn it of all in time: a registration waits for nothing
// that only tells whether a store has lost data, and by a part of the shards it could tell wrong.
func (c *Coordinator) tellNewest(ctx context.Context, participant string, shards []messages.ShardInfo) {
	ctx, cancel := context.WithTimeout(ctx, newestTime)
	defer cancel()
	for i, l := range c.leaders {
		var err error
		if shards[i].Voted, shards[i].Committed, err = l.newestCommitted(ctx, participant); err != nil {
			c.cfg.Log.WithError(err).WithField("participant", participant).Warn("its newest votes could not be looked at, so its store is not asked for them")
			for i := range shards {
				shards[i].Voted, shards[i].Committed = time.Time{}, messages.ID{}
			}
			return
		}
	}
}

// newestSearches is how many transactions of one message are looked for in the log's history.
const newestSearches = 4

// newestCommitted is the newest transaction that a participant's newest message of votes says yes to and that was committed, and the log's
// time of that message. Either is zero when there is none.
func (l *leader) newestCommitted(ctx context.Context, participant string) (voted time.Time, committed messages.ID, err error) {
	msg, err := l.stream.GetLastMsgForSubject(ctx, l.subjects.Vote(l.shard, participant))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return voted, committed, nil
	}
	if err != nil {
		return voted, committed, fmt.Errorf("newest vote of %s on shard %d: %w", participant, l.shard, err)
	}
	yes := yesVotes(msg.Data)
	views := make([]protocol.View, len(yes))
	var known newest
	err = l.inLeader(ctx, func() {
		known = l.newest[participant]
		for i, tx := range yes {
			views[i], _ = l.fold.View(tx)
		}
	})
	if err != nil || known.sequence == msg.Sequence {
		return msg.Time.UTC(), known.committed, err
	}
	committed, final, err := l.committedOf(ctx, yes, views)
	if err == nil && final {
		err = l.inLeader(ctx, func() { l.newest[participant] = newest{msg.Sequence, committed} })
	}
	return msg.Time.UTC(), committed, err
}

// yesVotes are the transactions that a message of votes says yes to, newest first.
func yesVotes(body []byte) (yes []messages.ID) {
	var decoder messages.Decoder
	for line := range messages.Lines(body) {
		var vote messages.VoteRecord
		if decoder.Vote(line, &vote) == nil && vote.Vote == messages.VoteYes {
			yes = append(yes, vote.Tx)
		}
	}
	slices.Reverse(yes)
	return yes
}

// committedOf is the first that was committed, by what the fold has of each, or else the log. It is final if none before it may be
// committed yet.
func (l *leader) committedOf(ctx context.Context, yes []messages.ID, views []protocol.View) (committed messages.ID, final bool, err error) {
	final = true
	searches := 0
	for i, tx := range yes {
		outcome, open := views[i].Outcome, !views[i].Finished
		if outcome == messages.Undecided && !open && searches < newestSearches { // the fold has forgotten it, or not read it yet
			searches++
			f, err := l.search(ctx, tx)
			if err != nil {
				return messages.ID{}, false, err
			}
			if outcome, open = f.view.Outcome, f.known && !f.view.Finished; outcome == messages.Committed && !f.counts() {
				outcome = messages.Undecided // perhaps it is the rest of one that was aborted, or its prepares came too late to count
			}
		}
		if outcome == messages.Committed {
			return tx, final, nil
		}
		final = final && (outcome == messages.Aborted || !open)
	}
	return messages.ID{}, final, nil
}
