// SPDX-License-Identifier: Apache-2.0

package tables

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Journal is what a participant has to remember of transactions, in the file of its store and in the same commits:
//
//	unknown ──prepare──▶ prepared ──commit or rollback──▶ finished ──expired──▶ unknown
//	   └──refused, or read-only: nothing is kept
//
// Of a prepared one it keeps a T, which is what makes it possible to go either way. A finished one is remembered until it has
// expired, because its prepare may be delivered again until then; a later one is stopped by the SDK.
//
// All of it is in memory too, so that the file is only written: about a hundred bytes for each transaction of the last half minute, which is
// how long they have by default.
//
// It implements participant.InDoubt, so that a restart asks for the outcomes that it missed, and participant.Watermark, so that a
// log which lost data is noticed.
type Journal[T any] struct {
	// Remember is how long finished transactions are remembered after their expiry, for who wants to audit them; zero is enough for
	// the protocol.
	Remember time.Duration

	file *File

	mu sync.Mutex
	// held and ended are what is in the file, and what the change that is being made adds and removes. ended tells whether a transaction was
	// committed.
	held  map[messages.ID]*preparedBranch[T]
	ended map[messages.ID]bool
}

// JournalBuckets are the buckets that a journal needs.
func JournalBuckets() []string {
	return []string{preparedBucket, endedBucket, watermarks.Name}
}

const preparedBucket = "prepared"

var watermarks = Table[watermark]{"watermarks"}

// preparedBranch is one that waits for its outcome.
type preparedBranch[T any] struct {
	What    T                 `json:"what"`
	Expires int64             `json:"expires"` // Unix time, s, rounded up
	Keys    []participant.Key `json:"keys,omitempty"`
}

// watermark is how far a log had come when it took this participant's last vote.
type watermark struct {
	Incarnation string `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

// NewJournal is the journal of a file that has the JournalBuckets.
func NewJournal[T any](file *File) (*Journal[T], error) {
	j := &Journal[T]{file: file, held: make(map[messages.ID]*preparedBranch[T])}
	err := file.View(func(tx *bbolt.Tx) (err error) {
		if j.ended, err = endedIn(tx); err != nil {
			return err
		}
		return j.prepared().Each(tx, func(id []byte, b preparedBranch[T]) error {
			j.held[messages.ID(id)] = &b
			return nil
		})
	})
	return j, err
}

func (j *Journal[T]) prepared() Table[preparedBranch[T]] {
	return Table[preparedBranch[T]]{preparedBucket}
}

// Prepare prepares branches, all in one commit, so that those that touch the same see each other. It calls prepare for each that
// is neither prepared nor finished: that gives what to keep with a yes, or another vote, or an error. A branch that fails
// before anything was written for it fails alone; after that none of the batch is kept, and all are asked again.
func (j *Journal[T]) Prepare(branches []*participant.Branch, prepare func(*Writer, *participant.Branch) (T, participant.Vote, error)) []participant.Result {
	results := make([]participant.Result, len(branches))
	err := j.file.Update(func(w *Writer) error {
		for i, b := range branches {
			before := w.writes
			vote, err := j.prepare(w, b, prepare)
			if err != nil && w.writes > before {
				return err
			}
			results[i] = participant.Result{Vote: vote, Err: err}
		}
		return nil
	})
	if err != nil {
		for i := range results {
			results[i] = participant.Result{Err: err}
		}
	}
	return results
}

func (j *Journal[T]) prepare(w *Writer, b *participant.Branch, prepare func(*Writer, *participant.Branch) (T, participant.Vote, error)) (participant.Vote, error) {
	if j.knows(b.Tx) {
		return participant.Yes, nil
	}
	what, vote, err := prepare(w, b)
	if vote != participant.Yes || err != nil {
		return vote, err
	}
	branch := &preparedBranch[T]{what, b.Expires.Unix() + 1, b.Keys()}
	if err := j.prepared().Put(w, b.Tx[:], *branch); err != nil {
		return 0, err
	}
	j.change(w, func() { j.held[b.Tx] = branch }, func() { delete(j.held, b.Tx) })
	return vote, nil
}

// knows tells whether a transaction is prepared, or has ended.
func (j *Journal[T]) knows(tx messages.ID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, over := j.ended[tx]
	return over || j.held[tx] != nil
}

// change changes what is in memory, after the file, and back if that does not come to be.
func (j *Journal[T]) change(w *Writer, do, undo func()) {
	locked := func(do func()) {
		j.mu.Lock()
		defer j.mu.Unlock()
		do()
	}
	locked(do)
	w.IfLost(func() { locked(undo) })
}

// Finish applies outcomes, all in one commit. It calls finish for each that is prepared; one that is unknown, or finished already, is no
// error and changes nothing. After an error nothing was applied, and all are asked again.
//
// Nobody waits for an outcome that frees no key, so such outcomes join the commit of the next prepares: under load that is a third of
// the syncs saved.
func (j *Journal[T]) Finish(outcomes []participant.Outcome, finish func(w *Writer, tx messages.ID, what T, commit bool) error) []error {
	errs := make([]error, len(outcomes))
	change := j.file.Join
	if j.freesKeys(outcomes) {
		change = j.file.Update
	}
	err := change(func(w *Writer) error {
		ended := make(map[int64][]byte)
		for _, o := range outcomes {
			if err := j.finish(w, o, finish, ended); err != nil {
				return err
			}
		}
		if len(ended) == 0 {
			return nil
		}
		if err := putEnded(w, ended); err != nil {
			return err
		}
		return j.sweep(w, time.Now(), 2*len(outcomes)) // more than were added, so that it catches up
	})
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// freesKeys tells whether any of the outcomes frees keys.
func (j *Journal[T]) freesKeys(outcomes []participant.Outcome) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range outcomes {
		if branch := j.held[o.Tx]; branch != nil && len(branch.Keys) > 0 {
			return true
		}
	}
	return false
}

// finish applies one outcome, and adds the transaction to those that may be forgotten at the same second.
func (j *Journal[T]) finish(w *Writer, o participant.Outcome, finish func(*Writer, messages.ID, T, bool) error, ended map[int64][]byte) error {
	j.mu.Lock()
	branch := j.held[o.Tx]
	j.mu.Unlock()
	if branch == nil {
		return nil
	}
	if err := finish(w, o.Tx, branch.What, o.Commit); err != nil {
		return err
	}
	if err := j.prepared().Remove(w, o.Tx[:]); err != nil {
		return err
	}
	j.change(w, func() {
		delete(j.held, o.Tx)
		j.ended[o.Tx] = o.Commit
	}, func() {
		j.held[o.Tx] = branch
		delete(j.ended, o.Tx)
	})
	forget := branch.Expires + int64((j.Remember+time.Second-1)/time.Second)
	ended[forget] = appendEnded(ended[forget], o)
	return nil
}

// sweep forgets finished transactions whose time has come, at most limit of them.
func (j *Journal[T]) sweep(w *Writer, now time.Time, limit int) error {
	forgotten, err := sweepEnded(w, now, limit)
	for tx, committed := range forgotten {
		j.change(w, func() { delete(j.ended, tx) }, func() { j.ended[tx] = committed })
	}
	return err
}

// InDoubt implements participant.InDoubt: the branches that are prepared here and wait for their outcome, with their keys.
func (j *Journal[T]) InDoubt(context.Context) (branches []participant.Prepared, err error) {
	err = j.file.View(func(tx *bbolt.Tx) error {
		return j.prepared().Each(tx, func(id []byte, b preparedBranch[T]) error {
			branches = append(branches, participant.Prepared{Tx: messages.ID(id), Keys: b.Keys})
			return nil
		})
	})
	return branches, err
}

// Prepared counts those that are prepared, as of a transaction of the file.
func (j *Journal[T]) Prepared(tx *bbolt.Tx) int { return j.prepared().Len(tx) }

// Finished gives the transactions that ended and are still remembered, and whether each was committed.
func (j *Journal[T]) Finished() (all map[messages.ID]bool, err error) {
	err = j.file.View(func(tx *bbolt.Tx) (err error) {
		all, err = endedIn(tx)
		return err
	})
	return all, err
}

// Watermark implements participant.Watermark.
func (j *Journal[T]) Watermark(_ context.Context, stream string) (incarnation string, sequence uint64, err error) {
	err = j.file.View(func(tx *bbolt.Tx) error {
		mark, _, err := watermarks.Get(tx, []byte(stream))
		incarnation, sequence = mark.Incarnation, mark.Sequence
		return err
	})
	return incarnation, sequence, err
}

// SetWatermark implements participant.Watermark.
func (j *Journal[T]) SetWatermark(_ context.Context, stream, incarnation string, sequence uint64) error {
	return j.file.Update(func(w *Writer) error {
		return watermarks.Put(w, []byte(stream), watermark{incarnation, sequence})
	})
}
