// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// standBy follows the log without acting on it, until the lease is granted; nil when ctx ends before. It writes nothing, is
// subscribed to nothing, and holds what the fold holds: what is open, and the window.
func (l *leader) standBy(ctx context.Context) (*mandate, error) {
	ticker := time.NewTicker(upkeep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil
		case m := <-l.granted:
			return m, nil
		case msg := <-l.tail:
			if err := l.onLog(msg); err != nil {
				return nil, err
			}
		case call := <-l.calls:
			call()
			if err := l.trouble(); err != nil {
				return nil, err
			}
		case <-ticker.C:
			l.history.horizon(0, nowMilli()) // lets go of what is out of the bounds; nothing is trimmed
		case <-l.registered: // whoever leads sends what is owed
		case <-l.yield: // it came too late
		}
	}
}

// lead leads the shard for as long as it is to: reads what came last, acts on what is open, opens the shard.
func (l *leader) lead(ctx context.Context, m *mandate) error {
	began := time.Now()
	crash.Here("coordinator.lease.granted")
	info, err := l.stream.Info(ctx)
	if err != nil {
		l.decline(ctx, m, err)
		return nil
	}
	err = l.goesAsFar(ctx, info, l.fold.Sequence())
	if err == nil {
		err = l.readTo(ctx, &info.State)
	}
	if err != nil {
		l.decline(ctx, m, err)
		return fmt.Errorf("log of shard %d: %w", l.shard, err)
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx)) // what is under way outlives ctx
	l.begin(work, room{limit: info.Config.MaxBytes, bytes: int64(info.State.Bytes)})
	t := &tenure{leader: l, mandate: m, lost: m.Done(), stopping: ctx.Done()}
	if t.subscriptions, err = l.subscribe(work); err == nil {
		l.opened(time.Since(began))
		err = l.serve(ctx, work, t)
	} else {
		l.log.WithError(err).Warn("the shard could not be opened: standing by")
		err = nil
	}
	l.unsubscribe(t.subscriptions)
	l.share.set(l.shard, follows)
	t.mandate.end()
	leave := l.stepDown()
	if err != nil || ctx.Err() != nil {
		defer stop()
		return errors.Join(err, leave(work))
	}
	l.leaving.Go(func() { // while the log is followed already
		defer stop()
		if err := leave(work); err != nil {
			l.log.WithError(err).Warn("leaving the shard; its next leader does what was not done")
		}
	})
	return nil
}

// decline gives a lease back that is of no use: the log is out of reach, or was trimmed.
func (l *leader) decline(ctx context.Context, m *mandate, why error) {
	m.end()
	if ctx.Err() == nil {
		l.log.WithError(why).Warn("the shard cannot be led now: standing by")
		wait(ctx, campaignPause)
	}
}

// begin starts a leadership with empty hands. What the log says to be open is acted on.
func (l *leader) begin(work context.Context, now room) {
	l.delivery = protocol.NewDelivery(protocol.DeliveryConfig{})
	l.append = l.newBatcher(work)
	l.live, l.liveBytes = make(map[messages.ID]*live), 0
	l.waiting = make(map[messages.ID][]string)
	l.aborting = make(map[messages.ID]time.Time)
	l.finished = nil
	l.answers = make(map[string][]byte)
	l.presumed = make(map[string][]messages.Effect)
	l.full, l.saving, l.passing, l.room = false, false, false, now
	l.leading = true
	l.fold.Live()
	l.perform()
}

// opened tells everybody who wants to know that the shard is led here.
func (l *leader) opened(took time.Duration) {
	l.leads.Store(true)
	select {
	case <-l.yield: // that was in another life
	default:
	}
	l.share.set(l.shard, leads)
	l.onceSeated.Do(func() { close(l.seated) })
	l.metrics.leads(l.shard)
	l.metrics.open(l.shard, l.fold, l.delivery, nowMilli())
	l.log.WithFields(logrus.Fields{"sequence": l.fold.Sequence(), "open": l.delivery.Len(), "took": took.Round(time.Microsecond)}).
		Info("leading the shard")
	crash.Here("coordinator.shard.opened")
}

// leavePatience is how long the log may take for what is written when a leadership ends, however little time others get to finish.
const leavePatience = 5 * time.Second

// stepDown ends a leadership: whoever waits is told to ask elsewhere, and the fold keeps its effects to itself again. What
// it gives brings the rest to its end: the log gets what was finished, and the next leader a checkpoint.
func (l *leader) stepDown() (leave func(context.Context) error) {
	l.leads.Store(false)
	for id := range l.live {
		l.answerAll(id, tryAgain(id, steppingDown))
	}
	for id := range l.waiting {
		l.answerAll(id, tryAgain(id, steppingDown))
	}
	for s := range l.seekers {
		l.answer(s.reply, tryAgain(s.wait.Tx, steppingDown))
	}
	clear(l.seekers)
	l.turnAway(l.submits)
	l.turnAway(l.waits)
	discard(l.dones) // they are said again to whoever asks again
	l.writeFinished()
	l.flush()
	at, records := l.fold.Checkpoint(), l.append
	l.fold.Replay()
	l.leading = false
	l.delivery = protocol.NewDelivery(protocol.DeliveryConfig{})
	l.settled, l.live, l.waiting, l.aborting, l.presumed = nil, nil, nil, nil, nil
	l.metrics.follows(l.shard)
	return func(work context.Context) error {
		timed, cancel := context.WithTimeout(work, leavePatience)
		defer cancel()
		crash.Here("coordinator.stepped.down")
		drained := records.Drain(timed)
		return errors.Join(drained, l.checkpoints.save(timed, l.shard, at), l.nc.FlushTimeout(time.Second))
	}
}

const steppingDown = "the coordinator does not lead the shard any more"

// turnAway answers what has come in and was not looked at: whoever sent it is to ask again, soon.
func (l *leader) turnAway(inbox chan *nats.Msg) {
	for {
		select {
		case msg := <-inbox:
			l.turnAwayOne(msg)
		default:
			return
		}
	}
}

func (l *leader) turnAwayOne(msg *nats.Msg) {
	for line := range messages.Lines(msg.Data) {
		if id, ok := l.idOf(line); ok {
			l.answer(msg.Reply, tryAgain(id, steppingDown))
		}
	}
}

// idOf reads the id of a submission or a wait; what is none of them is asked again later, and refused there.
func (l *leader) idOf(line []byte) (messages.ID, bool) {
	if sub := &l.scratch.submission; l.decoder.Submission(line, sub) == nil {
		return sub.Tx, true
	}
	var w messages.Wait
	err := l.decoder.Wait(line, &w)
	return w.Tx, err == nil
}

func discard(inbox chan *nats.Msg) {
	for {
		select {
		case <-inbox:
		default:
			return
		}
	}
}
