// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/crash"
)

// tenure is the time that a leader leads, and how it comes to its end:
//
//	        lease lost
//	leads ──────────────────────────────────────────────▶ over
//	  │  told to stop, others are there, or told to share   ▲
//	  ├─────────────▶ hands over ──────────────────────────▶┤ another one leads, or patience
//	  │                  │ nobody is left                   │
//	  │ told to stop     ▼                                  │
//	  └─────────────▶ drains ──────────────────────────────▶┘ all is decided, or patience
//
// While it hands over it leads as before, without the lease: that is with the next one, and until that one says that it
// leads there are two, who disagree about nothing. While it drains it takes nothing new.
type tenure struct {
	*leader
	mandate       *mandate
	lost          <-chan struct{} // nil when the lease does not matter any more
	stopping      <-chan struct{} // nil once it has been told to stop
	deadline      <-chan time.Time
	subscriptions []*nats.Subscription
	doubtful      time.Time // when it was asked last whether the lease is still ours
	stopped       bool      // it was told to stop
	handsOver     bool
	drains        bool
	over          bool
}

// serve is the leader's life between its beginning and its end; work outlives ctx.
func (l *leader) serve(ctx, work context.Context, t *tenure) error {
	ticker, upkeepTicker := time.NewTicker(tick), time.NewTicker(upkeep)
	defer ticker.Stop()
	defer upkeepTicker.Stop()
	for {
		if t.lost != nil && t.mandate.Err() != nil { // one that was paused must not go on with what it has in hand
			t.onLost(ctx)
		}
		if t.over {
			return nil
		}
		l.append.Hold() // what one round appends to the log leaves together
		var err error
		select {
		case <-t.lost:
			t.onLost(ctx)
		case <-t.stopping:
			t.onStop()
		case <-t.deadline:
			t.over = true
		case <-l.yield:
			t.onYield()
		case <-l.taken:
			t.onTaken(work)
		case m := <-l.granted:
			t.onGranted(m)
		case <-ticker.C:
			l.onTick()
			t.onTick()
		case <-upkeepTicker.C:
			l.upkeep(work)
		case msg := <-l.tail:
			err = l.onLog(msg)
		case msg := <-l.submits:
			t.onSubmit(msg)
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
			err = l.trouble()
		}
		if err == nil && !t.over {
			err = t.burst()
		}
		l.append.Release()
		if err != nil {
			return err
		}
		l.flush()
		t.over = t.over || t.drains && len(l.live) == 0 && len(l.submits) == 0
	}
}

// onLost hears that the lease is gone. It came to nothing if it was given back, or is not wanted any more.
func (t *tenure) onLost(ctx context.Context) {
	t.lost = nil
	if t.handsOver || t.stopped || ctx.Err() != nil {
		return
	}
	t.metrics.lost.Inc()
	t.log.Info("the shard's lease is lost: standing by")
	t.over = true
}

// onStop hands the shard over when there is somebody to take it, and drains when not.
func (t *tenure) onStop() {
	t.stopping, t.stopped = nil, true
	t.deadline = time.After(t.cfg.DrainTimeout)
	if t.share.alone() {
		t.drain()
		return
	}
	t.share.leave() // before the lease is given back, or it would come here again
	t.handOver()
}

// onYield hands the shard over because another coordinator is to lead it. If nobody takes it, the lease comes back.
func (t *tenure) onYield() {
	if t.stopped || t.handsOver {
		return
	}
	t.deadline = time.After(2 * t.cfg.Lease)
	t.handOver()
}

func (t *tenure) handOver() {
	t.handsOver, t.passing = true, true
	select {
	case <-t.taken: // that was before
	default:
	}
	t.share.set(t.shard, handsOver)
	crash.Here("coordinator.handover.begun")
	t.mandate.release()
	crash.Here("coordinator.handover.released")
}

// drain takes no more submissions; dones still come.
func (t *tenure) drain() {
	t.drains, t.handsOver, t.passing = true, false, false
	t.unsubscribe(t.subscriptions[1:])
	t.subscriptions = t.subscriptions[:1]
}

// onTaken hears that another coordinator leads the shard. Who hands it over believes that; who does not asks whose the lease is.
func (t *tenure) onTaken(work context.Context) {
	if !t.handsOver {
		t.doubt(work)
		return
	}
	crash.Here("coordinator.handover.taken")
	t.metrics.handedOver.Inc()
	t.log.Info("handed the shard over")
	t.over = true
}

// doubt finds out that the lease was taken away by force and the message about it was lost: two would lead for ever, and do
// everything twice.
func (t *tenure) doubt(work context.Context) {
	now := time.Now()
	if t.stopped || now.Sub(t.doubtful) < t.cfg.Lease {
		return
	}
	t.doubtful = now
	m := t.mandate
	go func() { // the leader does not wait for the server
		timed, cancel := context.WithTimeout(work, apiTimeout)
		defer cancel()
		held, err := m.session.holds(timed, t.shard)
		if held || err != nil {
			return
		}
		_ = t.inLeader(timed, func() { // who leads no more need not hear
			if t.mandate == m && !t.handsOver && !t.stopped && !t.over {
				t.onLost(work)
			}
		})
	}()
}

// onGranted hears that nobody else wanted the lease.
func (t *tenure) onGranted(m *mandate) {
	t.mandate.release()
	t.mandate = m
	if t.stopped {
		m.release()
		return
	}
	t.lost, t.deadline, t.handsOver, t.passing = m.Done(), nil, false, false
	t.share.set(t.shard, leads)
	t.log.Debug("the shard's lease came back")
}

// onTick drains when whoever was to take over is gone too.
func (t *tenure) onTick() {
	if t.stopped && t.handsOver && t.share.alone() {
		t.drain()
	}
}

// burst takes what else is there already, so that its effects leave together.
func (t *tenure) burst() error {
	for range burst {
		select {
		case msg := <-t.tail:
			if err := t.onLog(msg); err != nil {
				return err
			}
		case msg := <-t.dones:
			t.onDone(msg)
		case msg := <-t.submits:
			t.onSubmit(msg)
		case s := <-t.settled:
			t.onSettled(s)
		default:
			return nil
		}
	}
	return nil
}

// onSubmit takes a message of submissions, unless the lease has run out since it was looked at. Between the two this process may have been paused: the next
// leader had the message, too, and its client may have gone on without the transaction if that one refused it for good.
func (t *tenure) onSubmit(msg *nats.Msg) {
	if t.lost != nil && t.mandate.Err() != nil {
		t.turnAwayOne(msg)
		return
	}
	t.leader.onSubmit(msg)
}

func (l *leader) unsubscribe(subscriptions []*nats.Subscription) {
	for _, s := range subscriptions {
		if err := s.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) && !errors.Is(err, nats.ErrBadSubscription) {
			l.log.WithError(err).Warn("closing the shard")
		}
	}
}
