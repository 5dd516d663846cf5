// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// leader leads one shard. All its state belongs to the goroutine of run; others reach it through its channels.
type leader struct {
	shard       int
	cfg         *Config
	nc          *nats.Conn
	subjects    messages.Subjects
	stream      jetstream.Stream
	checkpoints checkpoints
	registry    *registry
	metrics     *metrics
	log         *logrus.Entry

	fold     *protocol.Fold
	delivery *protocol.Delivery
	append   *groupcommit.Batcher[messages.ID]
	decoder  messages.Decoder
	names    map[string]subjectName // log subjects, parsed
	// prepares are the subjects of prepares by participant, and aborts and finishes the other two that the leader writes.
	prepares         map[string]string
	aborts, finishes string

	// live is what was submitted here and is undecided, with those who wait for it.
	live map[messages.ID]*live
	// liveBytes is the size of the live submissions: a bound on what waits to be published.
	liveBytes int
	// waiting are those who wait for a transaction that was not submitted here.
	waiting map[messages.ID][]string
	// aborting are overdue transactions whose abort was appended, and when.
	aborting map[messages.ID]time.Time
	// finished are transactions whose end is to be noted in the log; that hurries nobody, so it gathers for a tick.
	finished []messages.Finished
	answers  map[string][]byte // reply subject to answers not yet sent
	presumed map[string][]messages.Effect
	scratch  leaderScratch
	full     bool // the log has refused a transaction
	room     room // in the log, for new ones
	saving   bool // an upkeep is under way
	behind   bool // the log was trimmed beyond what the leader has read
	history  history
	clock    *logclock.Clock
	draining bool
	replayed bool // the log was read to where it ended when the leader came

	submits    chan *nats.Msg
	waits      chan *nats.Msg
	dones      chan *nats.Msg
	tail       chan jetstream.Msg
	settled    chan settled
	registered chan string
	calls      chan func()
	led        chan struct{} // closed when the log was replayed and the leader acts
	onceLed    sync.Once
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

func newLeader(c *Coordinator, shard int, stream jetstream.Stream) *leader {
	return &leader{
		shard: shard, cfg: &c.cfg, nc: c.nc, subjects: c.subjects, stream: stream, checkpoints: c.checkpoints,
		registry: &c.registry, metrics: c.metrics, log: c.cfg.Log.WithField("shard", shard),
		names:    make(map[string]subjectName),
		prepares: make(map[string]string), aborts: c.subjects.Abort(shard), finishes: c.subjects.Finished(shard),
		live:     make(map[messages.ID]*live),
		waiting:  make(map[messages.ID][]string),
		aborting: make(map[messages.ID]time.Time),
		answers:  make(map[string][]byte),
		presumed: make(map[string][]messages.Effect),
		history:  history{keep: c.cfg.History, keepBytes: c.cfg.historyBytes()},
		clock:    logclock.New(),

		submits:    make(chan *nats.Msg, submitQueue),
		waits:      make(chan *nats.Msg, submitQueue),
		dones:      make(chan *nats.Msg, doneQueue),
		settled:    make(chan settled, submitQueue),
		registered: make(chan string, 1024),
		calls:      make(chan func(), 64),
		led:        make(chan struct{}),
	}
}

// run leads the shard until ctx ends, and then drains: it takes no more submissions, waits for what is undecided (for
// Config.DrainTimeout at the most), and leaves a checkpoint. A leader that fell so far behind that another one trimmed the
// log before it begins again from the checkpoint that was left by that one.
func (l *leader) run(ctx context.Context) error {
	for {
		err := l.term(ctx)
		if !errors.Is(err, protocol.ErrGap) {
			return err
		}
		l.log.WithError(err).Warn("fell behind the log; reading it again from the checkpoint")
	}
}

// term is run without a second beginning.
func (l *leader) term(ctx context.Context) error {
	from, err := l.checkpoints.load(ctx, l.shard, l.stream)
	if err != nil {
		return err
	}
	l.behind = false
	l.fold = protocol.NewFold(protocol.FoldConfig{Window: crash.Window()}, from)
	l.delivery = protocol.NewDelivery(protocol.DeliveryConfig{})
	// What is under way outlives ctx: it ends when the drain does.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	l.append = l.newBatcher(work)
	stopTail, err := l.follow(work, from.Sequence)
	if err != nil {
		return err
	}
	defer stopTail()
	if err := l.replay(ctx); err != nil {
		return err
	}
	subscriptions, err := l.subscribe()
	if err != nil {
		return err
	}
	l.metrics.open(l.shard, l.fold, l.delivery, nowMilli())
	l.onceLed.Do(func() { close(l.led) })
	l.log.WithFields(logrus.Fields{"sequence": l.fold.Sequence(), "open": l.delivery.Len()}).Info("leading the shard")
	err = l.lead(ctx, work, subscriptions)
	l.unsubscribe(subscriptions)
	return errors.Join(err, l.leave(work, stop))
}

func (l *leader) newBatcher(ctx context.Context) *groupcommit.Batcher[messages.ID] {
	js, _ := jetstream.New(l.nc) // fails only for options that we do not give
	return groupcommit.New(ctx, groupcommit.Config[messages.ID]{
		Send: groupcommit.Log(js, groupcommit.LogConfig{GiveUp: isFull, Failed: func(subject string, err error) {
			l.metrics.publishFailures.Inc()
			l.log.WithError(err).WithField("subject", subject).Debug("publish failed; trying again")
		}}),
		Settled:  l.onPublished,
		MaxBytes: groupcommit.MaxBytes(l.nc),
		MaxQueue: 1 << 16, // bounded by admission: see maxLiveBytes
	})
}

// onPublished runs in a lane's goroutine.
func (l *leader) onPublished(subject string, txs []messages.ID, _ uint64, err error) {
	l.metrics.message(len(txs))
	if kind, _ := l.subjects.ParseLog(l.shard, subject); kind == messages.KindPrepare {
		crash.Here("coordinator.prepare.stored")
		l.settled <- settled{append([]messages.ID(nil), txs...), err}
	}
}

// subscribe opens the shard to clients and participants.
func (l *leader) subscribe() (subscriptions []*nats.Subscription, err error) {
	for _, s := range []struct {
		subject, queue string
		inbox          chan *nats.Msg
	}{
		{l.subjects.Done(l.shard, "*"), "", l.dones},
		{l.subjects.Wait(l.shard), "coordinators", l.waits},
		{l.subjects.Submit(l.shard), "coordinators", l.submits},
	} {
		subscription, err := l.nc.ChanQueueSubscribe(s.subject, s.queue, s.inbox)
		if err != nil {
			return nil, fmt.Errorf("subscribe %s: %w", s.subject, err)
		}
		subscriptions = append(subscriptions, subscription)
	}
	return subscriptions, l.nc.Flush()
}

// lead is the leader's life between replay and drain, which begins when ctx ends; work outlives it.
func (l *leader) lead(ctx, work context.Context, subscriptions []*nats.Subscription) error {
	ticker, upkeepTicker := time.NewTicker(tick), time.NewTicker(upkeep)
	defer ticker.Stop()
	defer upkeepTicker.Stop()
	var deadline <-chan time.Time
	stopping := ctx.Done()
	for {
		l.append.Hold() // what one round appends to the log leaves together
		var err error
		select {
		case <-stopping:
			stopping = nil
			l.draining = true
			deadline = time.After(l.cfg.DrainTimeout)
			l.unsubscribe(subscriptions[1:]) // done still comes
		case <-deadline:
			l.append.Release()
			return nil
		case <-ticker.C:
			l.onTick()
		case <-upkeepTicker.C:
			l.upkeep(work)
		case msg := <-l.tail:
			err = l.onLog(msg)
		case msg := <-l.submits:
			l.onSubmit(msg)
		case msg := <-l.waits:
			l.onWait(msg)
		case msg := <-l.dones:
			l.onDone(msg)
		case s := <-l.settled:
			l.onSettled(s)
		case name := <-l.registered:
			l.delivery.Resend(name)
		case call := <-l.calls:
			call()
			if l.behind {
				err = protocol.ErrGap
			}
		}
		if err == nil {
			err = l.burst()
		}
		l.append.Release()
		if err != nil {
			return err
		}
		l.flush()
		if l.draining && len(l.live) == 0 && len(l.submits) == 0 {
			return nil
		}
	}
}

// burst takes what else is there already, so that its effects leave together.
func (l *leader) burst() error {
	for range burst {
		select {
		case msg := <-l.tail:
			if err := l.onLog(msg); err != nil {
				return err
			}
		case msg := <-l.dones:
			l.onDone(msg)
		case msg := <-l.submits:
			l.onSubmit(msg)
		case s := <-l.settled:
			l.onSettled(s)
		default:
			return nil
		}
	}
	return nil
}

func (l *leader) unsubscribe(subscriptions []*nats.Subscription) {
	for _, s := range subscriptions {
		if err := s.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			l.log.WithError(err).Warn("closing the shard")
		}
	}
}

// leave ends the leader in order: whoever still waits is told to ask elsewhere, the log gets what was finished, and
// the next leader a checkpoint.
func (l *leader) leave(ctx context.Context, stop context.CancelFunc) error {
	for id := range l.live {
		l.answerAll(id, tryAgain(id, "the coordinator is stopping"))
	}
	for id := range l.waiting {
		l.answerAll(id, tryAgain(id, "the coordinator is stopping"))
	}
	l.writeFinished()
	l.flush()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DrainTimeout)
	defer cancel()
	go func() { // what the lanes still report is of no use any more
		for {
			select {
			case <-l.settled:
			case <-ctx.Done():
				return
			}
		}
	}()
	drained := l.append.Drain(ctx)
	saved := l.checkpoints.save(ctx, l.shard, l.fold.Checkpoint())
	stop()
	return errors.Join(drained, saved, l.nc.FlushTimeout(time.Second))
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
