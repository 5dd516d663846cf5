// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/internal/logclock"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// leader leads one shard, or follows its log so that it can at once. All its state belongs to the goroutine of run; others
// reach it through its channels.
type leader struct {
	shard       int
	cfg         *Config
	nc          *nats.Conn
	subjects    messages.Subjects
	stream      jetstream.Stream
	checkpoints checkpoints
	registry    *registry
	metrics     *metrics
	share       *share
	ask         func(ctx context.Context, l *leader, msg *nats.Msg) // answers what other coordinators ask; see forward.go
	log         *logrus.Entry

	fold    *protocol.Fold
	decoder messages.Decoder
	names   map[string]subjectName // log subjects, parsed
	// prepares are the subjects of prepares by participant, and aborts and finishes the other two that the leader writes.
	prepares         map[string]string
	aborts, finishes string
	history          history
	newest           map[string]newest // by participant
	clock            *logclock.Clock
	behind           bool  // the log was trimmed beyond what was read
	lost             error // the log does not go as far any more as it was read
	scratch          leaderScratch
	seekers          map[seeker]struct{} // who waits for a search in the log
	searches         int                 // that are under way
	leaving          sync.WaitGroup      // what is left to be done for shards that are led no more

	// What follows is of one leadership; see begin. While there is none the fold has no effects, and nothing comes in.

	leading  bool
	delivery *protocol.Delivery
	append   *groupcommit.Batcher[messages.ID]
	settled  chan settled
	// live is what was submitted here and is undecided, with those who wait for it.
	live map[messages.ID]*live
	// liveBytes is the size of the live submissions: a bound on what waits to be published.
	liveBytes int
	// ages are those of the transactions that are admitted here.
	ages ages
	// waiting are those who wait for a transaction that was not submitted here.
	waiting map[messages.ID][]string
	// aborting are overdue transactions whose abort was appended, and when.
	aborting map[messages.ID]time.Time
	// finished are transactions whose end is to be noted in the log; that hurries nobody, so it gathers for a tick.
	finished []messages.Finished
	answers  map[string][]byte // reply subject to answers not yet sent
	presumed map[string][]messages.Effect
	full     bool // the log has refused a transaction
	room     room // in the log, for new ones
	saving   bool // an upkeep is under way
	passing  bool // the shard is handed over: there may be two who lead

	submits    chan *nats.Msg
	waits      chan *nats.Msg
	dones      chan *nats.Msg
	tail       chan jetstream.Msg
	registered chan string
	calls      chan func()
	ended      chan struct{} // closed when run is over: nobody takes calls any more

	granted chan *mandate // a lease of the shard
	yield   chan struct{} // the shard is to be handed over
	taken   chan struct{} // another coordinator says that it leads the shard
	leads   atomic.Bool   // whether this one does, for others to look at

	warm       chan struct{} // closed when the log was read to its end
	onceWarm   sync.Once
	seated     chan struct{} // closed when the shard has a leader, here or elsewhere
	onceSeated sync.Once
}

type subjectName struct {
	kind        messages.Kind
	participant string
}

// leaderScratch is memory that is used again and again.
type leaderScratch struct {
	record             []byte
	submission         messages.Submission
	prepare            messages.Prepare
	commits, rollbacks []messages.Effect
	overdue            []messages.ID
	missing            []string
}

// settled is the fate of one message of prepares.
type settled struct {
	txs []messages.ID
	err error
}

// The capacities of a leader's channels, in messages.
const (
	submitQueue = 16_384
	doneQueue   = 65_536
	tailQueue   = 64
	// burst is how many inputs are taken before their effects are sent.
	burst = 256
	// tick is the time between looks at the clock, and how long a finished record may wait for company.
	tick = 50 * time.Millisecond
	// upkeep is the time between checkpoints, and looks at the log's size.
	upkeep = 2 * time.Second
)

// subscribePatience is how long the server may take to confirm that a shard is open.
const subscribePatience = 5 * time.Second

func newLeader(c *Coordinator, shard int, stream jetstream.Stream) *leader {
	return &leader{
		shard: shard, cfg: &c.cfg, nc: c.nc, subjects: c.subjects, stream: stream, checkpoints: c.checkpoints,
		registry: &c.registry, metrics: c.metrics, share: c.share, ask: c.answerShard, log: c.cfg.Log.WithField("shard", shard),
		names:    make(map[string]subjectName),
		prepares: make(map[string]string), aborts: c.subjects.Abort(shard), finishes: c.subjects.Finished(shard),
		history: history{keep: c.cfg.History, keepBytes: c.cfg.historyBytes()},
		clock:   logclock.New(),
		seekers: make(map[seeker]struct{}),

		submits:    make(chan *nats.Msg, submitQueue),
		waits:      make(chan *nats.Msg, submitQueue),
		dones:      make(chan *nats.Msg, doneQueue),
		registered: make(chan string, 1024),
		calls:      make(chan func(), 64),
		newest:     make(map[string]newest),
		ended:      make(chan struct{}),

		granted: make(chan *mandate),
		yield:   make(chan struct{}, 1),
		taken:   make(chan struct{}, 1),
		warm:    make(chan struct{}),
		seated:  make(chan struct{}),
	}
}

// run follows the shard's log, and leads the shard whenever it is granted the lease, until ctx ends. A leader then drains, or
// hands the shard over (see tenure). One that fell so far behind that another trimmed the log before it begins again from the
// checkpoint that was left by that one.
func (l *leader) run(ctx context.Context) error {
	defer close(l.ended)
	defer l.leaving.Wait()
	l.metrics.follows(l.shard)
	for {
		err := l.term(ctx)
		switch {
		case errors.Is(err, protocol.ErrGap):
			l.log.WithError(err).Warn("fell behind the log; reading it again from the checkpoint")
		case err == nil || ctx.Err() != nil || !l.isWarm() || errors.Is(err, ErrLogLost) || errors.Is(err, messages.ErrNewerVersion):
			return err
		default: // out of reach, in the middle of another beginning
			l.log.WithError(err).Warn("the log could not be read; trying on")
			wait(ctx, reopenPause)
		}
	}
}

func (l *leader) isWarm() bool {
	select {
	case <-l.warm:
		return true
	default:
		return false
	}
}

// term is run without a second beginning: one reading of the log, and what is led meanwhile.
func (l *leader) term(ctx context.Context) error {
	from, err := l.checkpoints.load(ctx, l.shard, l.stream)
	if err != nil {
		return err
	}
	l.behind, l.lost = false, nil
	l.fold = protocol.NewFold(protocol.FoldConfig{Window: crash.Window()}, from)
	l.fold.Replay()
	reading, stop := context.WithCancel(context.WithoutCancel(ctx)) // it ends when the drain does
	defer stop()
	stopTail, err := l.follow(reading, from.Sequence)
	if err != nil {
		return err
	}
	defer stopTail()
	if err := l.replay(ctx); err != nil {
		return err
	}
	l.onceWarm.Do(func() { close(l.warm) })
	for {
		m, err := l.standBy(ctx)
		if err != nil || m == nil {
			return err
		}
		if err := l.lead(ctx, m); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// trouble is why the log cannot be read on, if an upkeep has found it out.
func (l *leader) trouble() error {
	if l.lost == nil && l.behind {
		return protocol.ErrGap
	}
	return l.lost
}

func (l *leader) newBatcher(ctx context.Context) *groupcommit.Batcher[messages.ID] {
	js, _ := jetstream.New(l.nc) // fails only for options that we do not give
	fates := make(chan settled, submitQueue)
	l.settled = fates
	return groupcommit.New(ctx, groupcommit.Config[messages.ID]{
		Send: groupcommit.Log(js, groupcommit.LogConfig{GiveUp: isFull, Failed: func(subject string, err error) {
			l.metrics.publishFailures.Inc()
			l.log.WithError(err).WithField("subject", subject).Debug("publish failed; trying again")
		}}),
		Settled: func(subject string, txs []messages.ID, _ uint64, err error) {
			l.onPublished(ctx, fates, subject, txs, err)
		},
		MaxBytes: groupcommit.MaxBytes(l.nc),
		MaxQueue: 1 << 16, // bounded by admission: see maxLiveBytes
	})
}

// onPublished runs in a lane's goroutine.
func (l *leader) onPublished(ctx context.Context, fates chan<- settled, subject string, txs []messages.ID, err error) {
	l.metrics.message(len(txs))
	if kind, _ := l.subjects.ParseLog(l.shard, subject); kind == messages.KindPrepare {
		crash.Here("coordinator.prepare.stored")
		select {
		case fates <- settled{append([]messages.ID(nil), txs...), err}:
		case <-ctx.Done():
		}
	}
}

// subscribe opens the shard to clients, participants and other coordinators. There is no queue group: a leader that is
// paused would go on drawing its share.
func (l *leader) subscribe(work context.Context) (subscriptions []*nats.Subscription, err error) {
	for _, s := range []struct {
		subject string
		inbox   chan *nats.Msg
	}{
		{l.subjects.Done(l.shard, "*"), l.dones},
		{l.subjects.Wait(l.shard), l.waits},
		{l.subjects.Submit(l.shard), l.submits},
	} {
		subscription, err := l.nc.ChanSubscribe(s.subject, s.inbox)
		if err != nil {
			return subscriptions, fmt.Errorf("subscribe %s: %w", s.subject, err)
		}
		subscriptions = append(subscriptions, subscription)
	}
	questions, err := l.nc.Subscribe(shardSubject(l.cfg.Prefix, l.shard, ">"), func(msg *nats.Msg) { l.ask(work, l, msg) })
	if err != nil {
		return subscriptions, fmt.Errorf("subscribe the questions about shard %d: %w", l.shard, err)
	}
	return append(subscriptions, questions), l.nc.FlushTimeout(subscribePatience)
}

// onTick does what the clock asks for.
func (l *leader) onTick() {
	now := time.Now()
	l.delivery.Tick(now.UnixMilli())
	l.abortOverdue(now)
	l.writeFinished()
}

// abortPatience is how long an appended abort is given before it is appended again.
const abortPatience = 5 * time.Second

// abortOverdue writes the abort of transactions whose time is up. The log alone says whether it came in time.
func (l *leader) abortOverdue(now time.Time) {
	l.scratch.overdue = l.fold.Overdue(l.now(), messages.MaxRecords, l.scratch.overdue[:0])
	for _, id := range l.scratch.overdue {
		if now.Sub(l.aborting[id]) < abortPatience {
			continue
		}
		l.aborting[id] = now
		l.appendAbort(id, protocol.ReasonTimeout)
	}
}

func (l *leader) appendAbort(id messages.ID, reason string) {
	l.scratch.record = messages.AppendAbort(l.scratch.record[:0], &messages.Abort{Tx: id, Reason: messages.CutReason(reason)})
	l.write(l.aborts, id)
	crash.Here("coordinator.abort.appended")
}

// write appends the scratch record to a subject. The queue is bounded by admission, so it does not block.
func (l *leader) write(subject string, id messages.ID) {
	if err := l.append.Append(context.Background(), subject, l.scratch.record, id); err != nil {
		l.log.WithError(err).WithField("tx", id).Error("a record was not taken")
	}
}

// writeFinished notes in the log which transactions are finished.
func (l *leader) writeFinished() {
	for i := range l.finished {
		l.scratch.record = messages.AppendFinished(l.scratch.record[:0], &l.finished[i])
		l.write(l.finishes, l.finished[i].Tx)
		crash.Here("coordinator.finished.appended")
	}
	l.finished = l.finished[:0]
}

// prepareSubject is where a participant's prepares go. Names are registered ones, so there are not many.
func (l *leader) prepareSubject(participant string) string {
	subject, ok := l.prepares[participant]
	if !ok {
		subject = l.subjects.Prepare(l.shard, participant)
		l.prepares[participant] = subject
	}
	return subject
}
