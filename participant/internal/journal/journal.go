// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// Config says which journal it is. Name is required.
type Config struct {
	// Prefix is the first token (or tokens) of every subject; default "assent".
	Prefix string
	// Name is the participant's: 1 to 64 of [A-Za-z0-9_-].
	Name string
	// Replicas of the stream when it is made; default 1. An existing stream keeps its own.
	Replicas int
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger

	// now is the clock, in Unix milliseconds; tests set it. It decides only when what is settled may be forgotten.
	now func() int64
	// span is how many messages may come after something that is still needed before it is written again; default 4096.
	span uint64
	// trim is how many messages that are over gather before they are removed; default 256.
	trim uint64
	// patience is how long one attempt to write waits for its acknowledgement before it looks; default 1 s.
	patience time.Duration
}

// ErrSuperseded is why an instance cannot write any more: another one has taken the journal over.
var ErrSuperseded = errors.New("another instance has taken over")

// ErrTooLarge is of an entry that no message can hold.
var ErrTooLarge = errors.New("the entry is too large")

// maxBody is the largest body of a message, in bytes: read by a get, it comes back in base64, and has to fit in a payload again.
const maxBody = 512 << 10

// Entry is a branch that is open: prepared and not settled.
type Entry struct {
	Tx messages.ID
	// Expires is the branch's (participant.Branch.Expires). Until then, and a minute longer, it is remembered once it is settled.
	Expires time.Time
	// Data is whatever the participant has to know of it: at least one byte, and no newline (JSON, as json.Marshal writes it). It
	// must not be changed any more.
	Data []byte
	// Note is what the participant makes of Data, or nil, so that it need not be made of it again: Entry and Entries give it back as long as
	// the branch is open here. It is not written: the next instance has none.
	Note any
}

// Status is what a journal knows of a transaction.
type Status int

// The statuses.
const (
	// Unknown: nothing was prepared here.
	Unknown Status = iota
	// Open: prepared, and not settled.
	Open
	// Committed and RolledBack: settled so.
	Committed
	RolledBack
	// Forgotten: it may have been settled so long ago that this is not remembered any more. It must not be prepared (again): it may
	// have been finished. participant.Conflict says so to its client.
	Forgotten
)

// Journal is one instance's. Its methods may be called by many goroutines at once; what they write meanwhile shares messages.
type Journal struct {
	cfg      Config
	js       jetstream.JetStream
	stream   jetstream.Stream
	name     string // of the stream
	subject  string
	instance string
	log      *logrus.Entry
	maxBody  int
	now      func() int64

	mu    sync.Mutex // guards state and err; only the batcher's lane changes state
	state *state
	err   error

	writes   *groupcommit.Batcher[*write]
	dead     chan struct{} // closed once err is set
	stop     context.CancelFunc
	trimming sync.WaitGroup
	purging  chan struct{} // holds a token while a purge runs
	trimmed  uint64        // the lane's
}

// Take opens a journal, makes its stream if there is none, takes it over from whoever has it, and reads what is open. From then on
// this instance alone can write: the one before gets ErrSuperseded. The connection stays the caller's and must outlive Close.
//
// Errors: ErrSettings, ErrNewer, ErrDamaged, a configuration that is wrong, or what the server says; and the context's.
func Take(ctx context.Context, js jetstream.JetStream, cfg Config) (*Journal, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	j := &Journal{
		cfg: cfg, js: js, name: streamName(cfg.Prefix, cfg.Name), subject: subjectName(cfg.Prefix, cfg.Name),
		instance: messages.NewID().String(), log: cfg.Log.WithField("participant", cfg.Name), now: cfg.now, state: newState(),
		maxBody: min(groupcommit.MaxBytes(js.Conn()), maxBody), dead: make(chan struct{}), purging: make(chan struct{}, 1),
	}
	if j.stream, err = openStream(ctx, js, &cfg); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := j.takeOver(ctx); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.stop = stop
	j.writes = groupcommit.New(work, groupcommit.Config[*write]{Send: j.send, Settled: j.settled, MaxBytes: j.maxBody})
	return j, nil
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Prefix == "" {
		cfg.Prefix = messages.DefaultPrefix
	}
	if !messages.ValidPrefix(cfg.Prefix) {
		return cfg, fmt.Errorf("journal: Prefix %q: want tokens of [A-Za-z0-9_-] joined by dots", cfg.Prefix)
	}
	if !messages.ValidName(cfg.Name) {
		return cfg, fmt.Errorf("journal: Name %.80q: want 1 to %d of [A-Za-z0-9_-]", cfg.Name, messages.MaxName)
	}
	if cfg.Replicas < 0 {
		return cfg, fmt.Errorf("journal: Replicas %d: cannot be negative", cfg.Replicas)
	}
	if cfg.Replicas == 0 {
		cfg.Replicas = 1
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	if cfg.now == nil {
		cfg.now = func() int64 { return time.Now().UnixMilli() }
	}
	if cfg.span == 0 {
		cfg.span = 4096
	}
	if cfg.trim == 0 {
		cfg.trim = 256
	}
	if cfg.patience == 0 {
		cfg.patience = time.Second
	}
	return cfg, nil
}

// takeOver reads the journal to its end and writes there that this instance has it now. Whatever an older one writes
// meanwhile is read, too; when this one's record stands, nothing of the older one's can follow it.
func (j *Journal) takeOver(ctx context.Context) error {
	for {
		var info *jetstream.StreamInfo
		err := streams.Persist(ctx, func(ctx context.Context) (err error) {
			info, err = j.stream.Info(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("stream %s: %w", j.name, err)
		}
		from := max(j.state.last+1, info.State.FirstSeq, 1)
		if err := j.read(ctx, from, info.State.LastSeq); err != nil {
			return err
		}
		j.state.last = max(j.state.last, info.State.LastSeq)
		begin := record{verb: verbBegin, name: j.instance, at: j.now()}
		sequence, err := j.put(ctx, append(appendRecord(nil, &begin), '\n'))
		switch {
		case err == nil:
			j.state.apply(sequence, &begin, j.now())
			j.trimmed = info.State.FirstSeq
			for _, it := range j.state.open {
				it.data = bytes.Clone(it.data) // and not with it the message that it came in
			}
			return nil
		case !errors.Is(err, ErrSuperseded): // else somebody has written since: read it
			return err
		}
	}
}

// Close ends the instance's use of the journal: writes under way end with an error, and may be stored. Nothing that it holds is
// settled by it. It may be called more than once.
func (j *Journal) Close() {
	j.die(errors.New("journal: closed"))
	j.stop()
	_ = j.writes.Drain(context.Background()) // its messages end with their context
	j.trimming.Wait()
}

// Dead is closed when the journal can write no more; Err says why then.
func (j *Journal) Dead() <-chan struct{} { return j.dead }

// Err is why the journal can write no more: ErrSuperseded, ErrDamaged, ErrLost, or that it was closed. nil while it can.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

func (j *Journal) die(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err == nil {
		j.err = err
		close(j.dead)
	}
}

// Status tells what is known of a transaction. Unknown and the settled ones are worth something only if a write that began later
// succeeds: an instance that was superseded does not know what the other one does. (Open holds without that: it is durable.)
func (j *Journal) Status(tx messages.ID) Status {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.state.open[tx] != nil {
		return Open
	}
	if it := j.state.past[tx]; it != nil {
		if it.commit {
			return Committed
		}
		return RolledBack
	}
	if f := j.state.floor; f != nil && tx.UnixMilli() <= f.record.at {
		return Forgotten
	}
	return Unknown
}

// Entries gives what is open, the oldest transactions first.
func (j *Journal) Entries() []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	entries := make([]Entry, 0, len(j.state.open))
	for tx, it := range j.state.open {
		entries = append(entries, Entry{Tx: tx, Expires: time.UnixMilli(it.record.at), Data: it.data, Note: it.note})
	}
	slices.SortFunc(entries, func(a, b Entry) int { return bytes.Compare(a.Tx[:], b.Tx[:]) })
	return entries
}

// Entry gives one that is open.
func (j *Journal) Entry(tx messages.ID) (Entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	it := j.state.open[tx]
	if it == nil {
		return Entry{}, false
	}
	return Entry{Tx: tx, Expires: time.UnixMilli(it.record.at), Data: it.data, Note: it.note}, true
}

// Append makes branches open, durably: when it returns nil they are in the stream, all of them, and this instance was the
// journal's only writer. An error leaves open which of them are stored; Status tells, once a later call has succeeded. One that is open
// already is written again.
func (j *Journal) Append(ctx context.Context, entries ...Entry) error {
	writes := make([]*write, len(entries))
	for i := range entries {
		e := &entries[i]
		switch {
		case len(e.Data) == 0 || bytes.IndexByte(e.Data, '\n') >= 0:
			return fmt.Errorf("journal: %s: Data is empty or has a newline", e.Tx)
		case len(e.Data)+recordOverhead > j.maxBody:
			return fmt.Errorf("journal: %s: %w: %d bytes, at most %d", e.Tx, ErrTooLarge, len(e.Data), j.maxBody-recordOverhead)
		}
		writes[i] = &write{record: record{verb: verbOpen, tx: e.Tx, at: max(e.Expires.UnixMilli(), 0), data: e.Data, note: e.Note}}
	}
	return j.write(ctx, writes)
}

// Settle ends open branches, durably: when it returns nil they are not open any more, and this instance was the journal's only
// writer. Call it when the outcome is applied, before that is answered. Those that are not open are passed over (they were
// settled before, or never prepared); but the call always writes, since that nothing is open here means something only as
// long as no other instance has taken over and prepared it.
//
// What an Append wrote that had given up waiting for it may turn out to be open only then. Such a branch is rolled back, or it is an error, since
// nobody can have applied it: call again when that is done.
func (j *Journal) Settle(ctx context.Context, outcomes ...participant.Outcome) error {
	var err error
	if writes := j.settling(outcomes); len(writes) > 0 {
		err = j.write(ctx, writes)
	} else {
		err = j.Prove(ctx)
	}
	if err != nil {
		return err
	}
	late := j.settling(outcomes) // whatever was to be written before is known now
	if len(late) == 0 {
		return nil
	}
	for _, w := range late {
		if w.commit {
			return fmt.Errorf("journal: %s turns out to be open: it is not applied", w.tx)
		}
	}
	return j.write(ctx, late)
}

// settling gives what is to be written for those outcomes whose branches are open.
func (j *Journal) settling(outcomes []participant.Outcome) (writes []*write) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, o := range outcomes {
		if it := j.state.open[o.Tx]; it != nil {
			writes = append(writes, &write{record: record{verb: verbDone, tx: o.Tx, at: it.record.at, commit: o.Commit}})
		}
	}
	return writes
}

// Prove returns nil if this instance was the journal's only writer at some time after the call began, by writing.
func (j *Journal) Prove(ctx context.Context) error {
	return j.write(ctx, []*write{{record: record{verb: verbHere}}})
}

// Watermark gives what SetWatermark kept for a log: participant.Watermark's.
func (j *Journal) Watermark(_ context.Context, stream string) (incarnation string, sequence uint64, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if it := j.state.marks[stream]; it != nil {
		return it.incarnation, it.sequence, nil
	}
	return "", 0, nil
}

// SetWatermark keeps it.
func (j *Journal) SetWatermark(ctx context.Context, stream, incarnation string, sequence uint64) error {
	if stream == "" || incarnation == "" || strings.ContainsAny(stream+incarnation, " \r\n") {
		return fmt.Errorf("journal: watermark of stream %q, incarnation %q: they cannot be empty or have white space", stream, incarnation)
	}
	return j.write(ctx, []*write{{record: record{verb: verbMark, name: stream, incarnation: incarnation, sequence: sequence}}})
}

// Stats are for operators.
type Stats struct {
	// Open branches, and the time at which the oldest of their transactions was minted; zero when there are none.
	Open   int
	Oldest time.Time
	// Remembered are settled branches that are still known.
	Remembered int
	// Ignored are messages that were passed over since their writer had been superseded.
	Ignored uint64
}

// Stats gives them. They are zero once Err is not nil: what was open here is another instance's, and this one does not hear when it ends.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return Stats{}
	}
	s := Stats{Open: len(j.state.open), Remembered: len(j.state.past), Ignored: j.state.ignored}
	for tx := range j.state.open {
		if t := tx.Time(); s.Oldest.IsZero() || t.Before(s.Oldest) {
			s.Oldest = t
		}
	}
	return s
}
