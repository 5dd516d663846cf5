// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/internal/logclock"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant/internal/metrics"
)

// Participant is one instance of a participant. See New.
type Participant struct {
	cfg      Config
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects messages.Subjects
	instance string
	log      *logrus.Entry
	ready    chan struct{}

	mu       sync.Mutex
	branches *protocol.Branches
	// inHand are the deliveries that are not acknowledged yet.
	inHand map[*delivery]struct{}
	locks  locking
	marks  watermarks
	clock  *logclock.Clock

	metrics *metrics.Collector[KeyStats]

	caller caller
	votes  *groupcommit.Batcher[messages.ID]
	dones  *groupcommit.Batcher[struct{}]
	fail   context.CancelCauseFunc
	// leaving: nothing is taken any more.
	leaving atomic.Bool
	// background are the goroutines that Run started; its own goroutine alone starts them.
	background sync.WaitGroup
}

// New gives an instance on a connection, which stays the caller's and must outlive Run. It checks cfg; nothing is sent
// yet.
func New(nc *nats.Conn, cfg Config) (*Participant, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("participant: %w", err)
	}
	p := &Participant{
		cfg: cfg, nc: nc, js: js, subjects: messages.Subjects{Prefix: cfg.Prefix}, instance: messages.NewID().String(),
		log: cfg.Log.WithField("participant", cfg.Name), ready: make(chan struct{}),
		branches: protocol.NewBranches(protocol.BranchesConfig{Leaves: cfg.Ownership != nil}), inHand: make(map[*delivery]struct{}), clock: logclock.New(),
	}
	p.metrics = metrics.New(cfg.Name, metrics.Now(p.KeyStats), figures)
	p.locks.init(&cfg)
	if cfg.Batch != nil {
		p.caller = newBatch(&cfg, p)
	} else {
		p.caller = newSingle(&cfg, p)
	}
	if cfg.Ownership != nil {
		cfg.Ownership.Expect()
	}
	return p, nil
}

// Ready is closed once the participant has registered and takes prepares.
func (p *Participant) Ready() <-chan struct{} { return p.ready }

// tick is the time between looks at the clock: for handlers to be asked again and votes to be repeated.
const tick = 50 * time.Millisecond

// The time between signs of life for what takes long: signs to JetStream for prepares, working to leaders for outcomes. A
// leader sends an outcome again after a second without a word, and then perhaps to another instance: the first word
// comes before that, after protocol.BranchesConfig.Working and this.
const (
	signs   = time.Second
	working = 400 * time.Millisecond
)

// Run takes part until ctx ends, then drains: it takes nothing new, lets calls that run end and their votes reach the log
// (Config.DrainTimeout at the most), and returns nil. What is left in doubt is taken up by another instance, or when this
// one starts again. It waits for a coordinator to appear, and outlives every disconnection. Its errors: ErrLogLost; the
// coordinator refuses the registration; the log speaks a newer protocol; the connection was closed; a drain that did not
// end in time. It must be called once.
func (p *Participant) Run(ctx context.Context) error {
	asked := ctx
	ctx, p.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	defer p.fail(nil)
	defer context.AfterFunc(asked, func() { p.fail(nil) })() // whatever its cause, that is no failure
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.open(work)
	status := p.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer p.nc.RemoveStatusListener(status)

	leave, err := p.join(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if err == nil {
		if p.cfg.Ownership != nil {
			p.cfg.Ownership.TakesPart()
		}
		close(p.ready)
		p.log.WithField("instance", p.instance).Info("taking part")
		p.takePart(ctx, status)
		err = p.drain(work, leave)
	} else {
		err = nil // asked to stop before it had begun
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	return err
}

// open makes what votes and dones leave through.
func (p *Participant) open(ctx context.Context) {
	p.votes = groupcommit.New(ctx, groupcommit.Config[messages.ID]{
		Send: groupcommit.Log(p.js, groupcommit.LogConfig{Failed: func(_ string, err error) {
			p.log.WithError(err).Debug("a vote did not reach the log yet")
		}}),
		Settled:  p.voted,
		MaxBytes: groupcommit.MaxBytes(p.nc),
	})
	p.dones = groupcommit.New(ctx, groupcommit.Config[struct{}]{Send: p.sendDone, MaxBytes: groupcommit.MaxBytes(p.nc)})
}

// join opens everything, in this order: what the store holds prepared keeps its partitions (see Ownership) before anything can
// end it; then outcomes, so that what the registration makes the leaders send is heard; prepares last, so that one that
// comes again finds its branch recalled.
func (p *Participant) join(ctx context.Context) (leave func(context.Context), err error) {
	var closers []func(context.Context)
	leave = func(ctx context.Context) {
		for _, closer := range closers {
			closer(ctx)
		}
	}
	defer func() {
		if err != nil {
			p.leaving.Store(true)
			p.caller.close()
			ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainTimeout)
			defer cancel()
			leave(ended)
		}
	}()
	recalled, err := p.recallClaims(ctx)
	if err != nil {
		return leave, err
	}
	for outcome, subject := range map[messages.Outcome]string{
		messages.Committed: p.subjects.Commits(p.cfg.Name), messages.Aborted: p.subjects.Rollbacks(p.cfg.Name),
	} {
		subscription, err := p.nc.QueueSubscribe(subject, p.cfg.Name, func(msg *nats.Msg) { p.onOutcome(outcome, msg) })
		if err != nil {
			return leave, fmt.Errorf("participant %s: subscribe %s: %w", p.cfg.Name, subject, err)
		}
		closers = append(closers, func(context.Context) { p.unsubscribe(subscription) })
	}
	siblings, err := p.nc.Subscribe(p.subjects.Dones(p.cfg.Name), p.onDone)
	if err != nil {
		return leave, fmt.Errorf("participant %s: subscribe: %w", p.cfg.Name, err)
	}
	closers = append(closers, func(context.Context) { p.unsubscribe(siblings) })
	shards, err := p.register(ctx)
	if err != nil {
		return leave, err
	}
	if err := p.recall(ctx, recalled, len(shards)); err != nil {
		return leave, err
	}
	if err := p.remember(ctx, shards); err != nil {
		return leave, err
	}
	for shard, info := range shards {
		stop, err := p.take(ctx, shard, info)
		if err != nil {
			return leave, fmt.Errorf("participant %s: prepares of shard %d: %w", p.cfg.Name, shard, err)
		}
		closers = append(closers, stop)
	}
	service, err := micro.AddService(p.nc, micro.Config{
		Name: messages.InstanceService, Version: "0.1.0", Metadata: map[string]string{messages.InstanceKey: p.cfg.Name},
	})
	if err != nil {
		return leave, fmt.Errorf("participant %s: micro service: %w", p.cfg.Name, err)
	}
	closers = append(closers, func(context.Context) { _ = service.Stop() }) // its only error is of a connection that is gone
	return leave, nil
}

func (p *Participant) unsubscribe(s *nats.Subscription) {
	if err := s.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.log.WithError(err).Debug("unsubscribing")
	}
}

// recall repeats the votes of what the store holds prepared, and locks its keys; recalled is that, if it was asked already.
func (p *Participant) recall(ctx context.Context, recalled []Prepared, shards int) error {
	if p.cfg.Ownership == nil {
		var err error
		if recalled, err = p.inDoubt(ctx); err != nil {
			return err
		}
	}
	p.do(func(b *protocol.Branches, now int64) {
		for i := range recalled {
			b.Recall(recalled[i].Tx, recalled[i].Tx.Shard(shards))
			p.hold(&recalled[i], now)
		}
	})
	return nil
}

// remember asks the store for the newest transaction that it must have. Only for that of the newest vote: of older ones a store may have
// forgotten that it committed them.
func (p *Participant) remember(ctx context.Context, shards []messages.ShardInfo) error {
	store, ok := p.cfg.store().(Memory)
	newest := slices.MaxFunc(shards, func(a, b messages.ShardInfo) int { return a.Voted.Compare(b.Voted) }).Committed
	if !ok || newest.IsZero() {
		return nil
	}
	remembers, err := store.Remembers(ctx, newest)
	if err != nil {
		return fmt.Errorf("participant %s: whether %s is remembered: %w", p.cfg.Name, newest, err)
	}
	if !remembers {
		p.log.WithError(ErrStoreLost).WithField("tx", newest.String()).Error("the store knows nothing of a transaction that this participant voted yes " +
			"for and that was committed: it was restored from a backup, or a standby took over that was behind; what was committed before it may be lost " +
			"too: compare by hand (assent tx list --history)")
	}
	return nil
}

// inDoubt asks the store what it holds prepared, if it can say.
func (p *Participant) inDoubt(ctx context.Context) ([]Prepared, error) {
	store, ok := p.cfg.store().(InDoubt)
	if !ok {
		return nil, nil
	}
	branches, err := store.InDoubt(ctx)
	if err != nil {
		return nil, fmt.Errorf("participant %s: what is in doubt: %w", p.cfg.Name, err)
	}
	return branches, nil
}

// takePart gives signs of life and follows the connection until ctx ends. What may wait, for a handler, the log or the
// application's store, has goroutines of its own.
func (p *Participant) takePart(ctx context.Context, status <-chan nats.Status) {
	p.background.Go(func() {
		every(ctx, tick, p.tick)
	})
	p.background.Go(func() { p.askGranted(ctx) })
	p.background.Go(func() { p.logKeys(ctx) })
	p.background.Go(func() {
		every(ctx, signs, func() { p.marks.save(ctx, p) })
	})
	signsTicker, workingTicker, donesTicker := time.NewTicker(signs), time.NewTicker(working), time.NewTicker(tick)
	defer signsTicker.Stop()
	defer workingTicker.Stop()
	defer donesTicker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-signsTicker.C:
			p.signsOfLife()
			p.caller.tidy()
		case <-workingTicker.C:
			p.do(func(b *protocol.Branches, now int64) { b.Working(now) })
		case <-donesTicker.C:
			p.dones.Flush() // see answer
		case now := <-status:
			if now == nats.CLOSED {
				p.fail(fmt.Errorf("participant %s: %w", p.cfg.Name, nats.ErrConnectionClosed))
				return
			}
			p.background.Go(func() { p.registerAgain(ctx) })
		}
	}
}

// every does something again and again until ctx ends.
func every(ctx context.Context, pause time.Duration, do func()) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// registerAgain after a reconnect: outcomes that were sent meanwhile are lost, so they are to be sent again.
func (p *Participant) registerAgain(ctx context.Context) {
	if _, err := p.register(ctx); err != nil && ctx.Err() == nil {
		p.fail(err)
	}
}

// lastWords is the time for what follows a drain, in time or not: giving back what is left, and the watermarks.
const lastWords = time.Second

// drain ends the instance in order.
func (p *Participant) drain(work context.Context, leave func(context.Context)) error {
	ctx, cancel := context.WithTimeout(work, p.cfg.DrainTimeout)
	defer cancel()
	p.leaving.Store(true)
	p.caller.close()
	calling, called := context.WithCancel(ctx)
	defer called()
	p.background.Go(func() { every(calling, tick, p.dones.Flush) }) // no call that takes its time holds back what others have done
	leave(ctx)
	var err error
	if !waitFor(ctx, p.caller.wait) {
		err = fmt.Errorf("participant %s: a handler call did not end within %v", p.cfg.Name, p.cfg.DrainTimeout)
	}
	called()
	if errors.Join(p.votes.Drain(ctx), p.dones.Drain(ctx)) != nil { // both, whatever becomes of the first
		err = errors.Join(err, fmt.Errorf("participant %s: votes did not reach the log within %v", p.cfg.Name, p.cfg.DrainTimeout))
	}
	ctx, cancel = context.WithTimeout(work, lastWords)
	defer cancel()
	waitFor(ctx, p.background.Wait)
	p.giveBackAll()
	p.marks.save(ctx, p)
	if err := p.nc.FlushWithContext(ctx); err != nil {
		p.log.WithError(err).Debug("last words were not sent; what they were about comes again")
	}
	return err
}

// waitFor tells whether something ended before ctx did.
func waitFor(ctx context.Context, end func()) bool {
	ended := make(chan struct{})
	go func() {
		end()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
		return false
	}
}
