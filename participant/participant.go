// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
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
	marks  watermarks
	clock  *logClock

	caller caller
	votes  *groupcommit.Batcher[messages.ID]
	dones  *groupcommit.Batcher[struct{}]
	fail   context.CancelCauseFunc
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
		cfg: cfg, nc: nc, js: js, subjects: messages.Subjects{Prefix: cfg.Prefix}, instance: uuid.NewString(),
		log: cfg.Log.WithField("participant", cfg.Name), ready: make(chan struct{}),
		branches: protocol.NewBranches(protocol.BranchesConfig{}), inHand: make(map[*delivery]struct{}), clock: newLogClock(),
	}
	if cfg.Batch != nil {
		p.caller = newBatch(&cfg, p)
	} else {
		p.caller = newSingle(&cfg, p)
	}
	return p, nil
}

// Ready is closed once the participant has registered and takes prepares.
func (p *Participant) Ready() <-chan struct{} { return p.ready }

// tick is the time between looks at the clock: for handlers to be asked again and votes to be repeated.
const tick = 50 * time.Millisecond

// signs is the time between signs of life for what takes long: to JetStream for prepares, to leaders for outcomes.
const signs = time.Second

// Run takes part until ctx ends, then drains: it takes nothing new, lets calls that run end and their votes reach the log
// (Config.DrainTimeout at the most), and returns nil. What is left in doubt is taken up by another instance, or when this
// one starts again. It waits for a coordinator to appear, and outlives every disconnection. Its errors: ErrLogLost; the
// coordinator refuses the registration; the log speaks a newer protocol; the connection was closed. It must be called
// once.
func (p *Participant) Run(ctx context.Context) error {
	ctx, p.fail = context.WithCancelCause(ctx)
	defer p.fail(nil)
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	p.votes = groupcommit.New(work, groupcommit.Config[messages.ID]{
		Send: groupcommit.Log(p.js, groupcommit.LogConfig{Failed: func(_ string, err error) {
			p.log.WithError(err).Debug("a vote did not reach the log yet")
		}}),
		Settled: p.voted,
	})
	p.dones = groupcommit.New(work, groupcommit.Config[struct{}]{Send: p.sendDone})
	status := p.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer p.nc.RemoveStatusListener(status)

	leave, err := p.join(ctx)
	if err == nil {
		close(p.ready)
		p.log.WithField("instance", p.instance).Info("taking part")
		p.takePart(ctx, status)
		err = p.drain(work, leave)
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil // asked to stop before it had begun
	}
	return err
}

// join opens everything, in this order: outcomes first, so that what the registration makes the leaders send is heard.
func (p *Participant) join(ctx context.Context) (leave func(), err error) {
	var closers []func()
	leave = func() {
		for _, closer := range closers {
			closer()
		}
	}
	defer func() {
		if err != nil {
			leave()
		}
	}()
	for outcome, subject := range map[messages.Outcome]string{
		messages.Committed: p.subjects.Commits(p.cfg.Name), messages.Aborted: p.subjects.Rollbacks(p.cfg.Name),
	} {
		subscription, err := p.nc.QueueSubscribe(subject, p.cfg.Name, func(msg *nats.Msg) { p.onOutcome(outcome, msg) })
		if err != nil {
			return leave, fmt.Errorf("participant %s: subscribe %s: %w", p.cfg.Name, subject, err)
		}
		closers = append(closers, func() { p.unsubscribe(subscription) })
	}
	siblings, err := p.nc.Subscribe(p.subjects.Dones(p.cfg.Name), p.onDone)
	if err != nil {
		return leave, fmt.Errorf("participant %s: subscribe: %w", p.cfg.Name, err)
	}
	closers = append(closers, func() { p.unsubscribe(siblings) })
	shards, err := p.register(ctx)
	if err != nil {
		return leave, err
	}
	for shard, info := range shards {
		stop, err := p.consume(ctx, shard, info)
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
	closers = append(closers, func() { _ = service.Stop() }) // its only error is of a connection that is gone
	return leave, p.recall(ctx, len(shards))
}

func (p *Participant) unsubscribe(s *nats.Subscription) {
	if err := s.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		p.log.WithError(err).Debug("unsubscribing")
	}
}

// recall repeats the votes of what the store holds prepared.
func (p *Participant) recall(ctx context.Context, shards int) error {
	store, ok := p.cfg.store().(InDoubt)
	if !ok {
		return nil
	}
	txs, err := store.InDoubt(ctx)
	if err != nil {
		return fmt.Errorf("participant %s: what is in doubt: %w", p.cfg.Name, err)
	}
	p.do(func(b *protocol.Branches, _ int64) {
		for _, tx := range txs {
			b.Recall(tx, tx.Shard(shards))
		}
	})
	return nil
}

// takePart keeps the clock until ctx ends.
func (p *Participant) takePart(ctx context.Context, status <-chan nats.Status) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	signsTicker := time.NewTicker(signs)
	defer signsTicker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.do(func(b *protocol.Branches, now int64) { b.Tick(now) })
		case <-signsTicker.C:
			p.do(func(b *protocol.Branches, now int64) { b.Working(now) })
			p.signsOfLife()
			p.marks.save(ctx, p)
		case now := <-status:
			if now == nats.CLOSED {
				p.fail(fmt.Errorf("participant %s: %w", p.cfg.Name, nats.ErrConnectionClosed))
				return
			}
			go p.registerAgain(ctx)
		}
	}
}

// registerAgain after a reconnect: outcomes that were sent meanwhile are lost, so they are to be sent again.
func (p *Participant) registerAgain(ctx context.Context) {
	if _, err := p.register(ctx); err != nil && ctx.Err() == nil {
		p.fail(err)
	}
}

// drain ends the instance in order.
func (p *Participant) drain(ctx context.Context, leave func()) error {
	leave()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DrainTimeout)
	defer cancel()
	called := make(chan struct{})
	go func() {
		p.caller.wait()
		close(called)
	}()
	var err error
	select {
	case <-called:
	case <-ctx.Done():
		err = fmt.Errorf("participant %s: a handler call did not end within %v", p.cfg.Name, p.cfg.DrainTimeout)
	}
	err = errors.Join(err, p.votes.Drain(ctx), p.dones.Drain(ctx))
	p.marks.save(ctx, p)
	return errors.Join(err, p.nc.FlushWithContext(ctx))
}

// do gives an event to the branches and carries out the steps that follow.
func (p *Participant) do(event func(b *protocol.Branches, now int64)) {
	p.mu.Lock()
	event(p.branches, p.clock.now())
	steps := p.branches.Take()
	p.mu.Unlock()
	for i := range steps {
		p.perform(&steps[i])
	}
}

func (p *Participant) perform(s *protocol.Step) {
	switch s.Kind {
	case protocol.AskPrepare:
		p.caller.prepare(s.Token.(*prepared).branch)
	case protocol.AskFinish:
		p.caller.finish(Outcome{Tx: s.Tx, Commit: s.Outcome == messages.Committed})
	case protocol.CastVote:
		p.cast(s)
	case protocol.AckPrepare:
		p.ack(s.Token.(*prepared).delivery)
	case protocol.SendDone:
		record := messages.AppendDone(make([]byte, 0, 96), &s.Done)
		// A done that is not sent is asked for again.
		_ = p.dones.Append(context.Background(), s.Reply, record, struct{}{})
	}
}

// cast gives a vote to the group commit. When that drains already, the vote is cast by who takes the branch up next.
func (p *Participant) cast(s *protocol.Step) {
	record := messages.AppendVote(make([]byte, 0, 96), &messages.VoteRecord{Tx: s.Tx, Vote: s.Vote, Reason: s.Reason, Held: s.Held})
	_ = p.votes.Append(context.Background(), p.subjects.Vote(s.Shard, p.cfg.Name), record, s.Tx)
}

// voted hears, in a lane's goroutine, that the log has a message of votes.
func (p *Participant) voted(subject string, txs []messages.ID, sequence uint64, err error) {
	if err != nil {
		return // only when the instance ends: the prepares come again
	}
	crash.Here("participant.vote.stored")
	p.marks.saw(subject, sequence)
	p.mu.Lock()
	now := p.clock.now()
	for _, tx := range txs {
		p.branches.Voted(tx, sequence, now)
	}
	steps := p.branches.Take()
	p.mu.Unlock()
	for i := range steps {
		if steps[i].Kind == protocol.CastVote { // the lane's own goroutine must not wait for room in it
			go p.cast(&steps[i])
			continue
		}
		p.perform(&steps[i])
	}
}

func (p *Participant) sendDone(_ context.Context, subject string, body []byte) (uint64, error) {
	defer crash.Here("participant.done.sent")
	return 0, p.nc.Publish(subject, body)
}

// prepared hears what the handler said to prepares.
func (p *Participant) prepared(branches []*Branch, results []Result) {
	crash.Here("participant.prepare.handled")
	p.do(func(b *protocol.Branches, now int64) {
		for i, branch := range branches {
			vote, reason := p.judge(branch, &results[i])
			b.Prepared(branch.Tx, vote, reason, now)
		}
	})
}

// judge makes a vote of a handler's result; zero when the handler is to be asked again.
func (p *Participant) judge(b *Branch, r *Result) (vote messages.Vote, reason string) {
	switch {
	case r.Err == nil && (r.Vote == Yes || r.Vote == ReadOnly):
		return r.Vote, ""
	case r.Err == nil:
		return 0, fmt.Sprintf("the handler voted %v without an error: want Yes or ReadOnly", r.Vote)
	case errors.Is(r.Err, ErrRefused):
		return messages.VoteNo, r.Err.Error()
	default:
		p.log.WithError(r.Err).WithField("tx", b.Tx).Warn("prepare failed; it is tried again until the transaction expires")
		return 0, r.Err.Error()
	}
}

// finished hears what the handler said to outcomes.
func (p *Participant) finished(outcomes []Outcome, errs []error) {
	crash.Here("participant.outcome.applied")
	p.do(func(b *protocol.Branches, now int64) {
		for i, o := range outcomes {
			heuristic := ""
			if err := errs[i]; errors.Is(err, ErrHeuristic) {
				heuristic = err.Error()
				p.log.WithField("tx", o.Tx).WithField("reason", heuristic).Error("heuristic: the resource decided against the outcome")
			} else if err != nil {
				p.log.WithError(err).WithField("tx", o.Tx).Warn("the outcome could not be applied; it is tried again")
			}
			b.Applied(o.Tx, errs[i] == nil || heuristic != "", heuristic, now)
		}
	})
}
