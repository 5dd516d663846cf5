// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// answer adds an answer to what a client is sent at the next flush.
func (l *leader) answer(reply string, a *messages.Answer) {
	if reply == "" {
		return // nobody asked
	}
	body := append(messages.AppendAnswer(l.answers[reply], a), '\n')
	if len(body) >= messages.MaxMessage/2 {
		l.publish(reply, "", body)
		body = body[:0]
	}
	l.answers[reply] = body
}

// answerOf is the answer that tells how a transaction was decided.
func (l *leader) answerOf(tx messages.ID, v *protocol.Verdict) *messages.Answer {
	return &messages.Answer{
		Tx: tx, Outcome: v.Outcome, Participant: v.Participant, Reason: l.reason(tx, v), WrongOwner: v.WrongOwner,
		Conflict: v.Conflict,
	}
}

// reason is why a transaction was aborted, for people: of one whose time was up also who has not voted, as long as that is
// known, which is while it is open. (Who is down owes a done, and keeps it open.)
func (l *leader) reason(tx messages.ID, v *protocol.Verdict) string {
	if v.Reason != protocol.ReasonTimeout || v.Participant != "" {
		return v.Reason
	}
	view, _ := l.fold.View(tx)
	var silent []string
	for _, b := range view.Branches {
		if b.Vote == 0 {
			silent = append(silent, b.Participant)
		}
	}
	if len(silent) == 0 {
		return v.Reason
	}
	return v.Reason + ": no vote of " + strings.Join(silent, ", ")
}

// answerAll answers everyone who waits for a transaction, which is live no more.
func (l *leader) answerAll(tx messages.ID, a *messages.Answer) {
	if waiting := l.live[tx]; waiting != nil {
		for _, reply := range waiting.waiters {
			l.answer(reply, a)
		}
		l.liveBytes -= waiting.bytes
		delete(l.live, tx)
	}
	if others, ok := l.waiting[tx]; ok {
		for _, reply := range others {
			l.answer(reply, a)
		}
		delete(l.waiting, tx)
	}
}

// flush sends what the inputs of this round led to: answers first, a client waits for them.
func (l *leader) flush() {
	for reply, body := range l.answers {
		if len(body) > 0 {
			l.publish(reply, "", body)
			crash.Here("coordinator.answered")
		}
		delete(l.answers, reply)
	}
	for name, rollbacks := range l.presumed {
		l.sendEffects(name, nil, rollbacks)
		delete(l.presumed, name)
	}
	now := nowMilli()
	for name := range l.delivery.Waiting() {
		for {
			s := &l.scratch
			s.commits, s.rollbacks = l.delivery.Batch(name, now, s.commits[:0], s.rollbacks[:0])
			if len(s.commits)+len(s.rollbacks) == 0 {
				break
			}
			l.sendEffects(name, s.commits, s.rollbacks)
			crash.Here("coordinator.outcome.sent")
		}
	}
}

// sendEffects brings outcomes to a participant, which answers to its done subject. A lost one is sent again.
func (l *leader) sendEffects(participant string, commits, rollbacks []messages.Effect) {
	done := l.subjects.Done(l.shard, participant)
	l.sendBatch(l.subjects.Commit(l.shard, participant), done, commits)
	l.sendBatch(l.subjects.Rollback(l.shard, participant), done, rollbacks)
}

func (l *leader) sendBatch(subject, reply string, effects []messages.Effect) {
	if len(effects) == 0 {
		return
	}
	l.metrics.effects.Add(float64(len(effects)))
	for batch := range slices.Chunk(effects, messages.MaxRecords) {
		body := l.scratch.record[:0]
		for i := range batch {
			body = append(messages.AppendEffect(body, &batch[i]), '\n')
		}
		l.publish(subject, reply, body)
		l.scratch.record = body
	}
}

// publish sends over core NATS. What it cannot send is lost, as on a network: clients ask again, outcomes are sent again.
func (l *leader) publish(subject, reply string, body []byte) {
	if err := l.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: body}); err != nil {
		l.metrics.publishFailures.Inc()
		l.log.WithError(err).WithField("subject", subject).Debug("not sent")
	}
}

// onDone takes a participant's answers. (A message with a status and no body says that nobody is there to hear.)
func (l *leader) onDone(msg *nats.Msg) {
	participant := messages.LastToken(msg.Subject)
	now := nowMilli()
	for line := range messages.Lines(msg.Data) {
		var done messages.Done
		if err := l.decoder.Done(line, &done); err != nil {
			l.metrics.malformed.Inc()
			continue
		}
		if done.Heuristic != "" {
			l.metrics.heuristics.Inc()
			l.log.WithField("tx", done.Tx).WithField("participant", participant).WithField("reason", done.Heuristic).
				Error("heuristic: the participant's resource decided against the outcome; its data has to be mended by hand")
		}
		if finished, ok := l.delivery.Done(participant, &done, now); ok {
			crash.Here("coordinator.done.heard")
			l.finished = append(l.finished, finished)
		}
	}
	if len(l.finished) >= messages.MaxRecords {
		l.writeFinished()
	}
}

// onWait answers with a transaction's outcome, as soon as it is known.
func (l *leader) onWait(msg *nats.Msg) {
	for line := range messages.Lines(msg.Data) {
		var wait messages.Wait
		if err := l.decoder.Wait(line, &wait); err != nil {
			l.answer(msg.Reply, invalid(wait.Tx, err))
			continue
		}
		l.wait(&wait, msg.Reply)
	}
}

func (l *leader) wait(w *messages.Wait, reply string) {
	tx := w.Tx
	verdict, known := l.fold.Lookup(tx)
	switch {
	case verdict.Outcome != messages.Undecided:
		l.answer(reply, l.answerOf(tx, &verdict))
	case w.Now && (known || l.live[tx] != nil):
		l.answer(reply, &messages.Answer{Tx: tx, Error: messages.CodeUndecided, Message: "the transaction is open"})
	case l.live[tx] != nil:
		l.join(tx, l.live[tx], reply)
	case !known:
		l.seek(w, reply)
	case slices.Contains(l.waiting[tx], reply):
	case len(l.waiting[tx]) >= maxWaiters:
		l.answer(reply, tryAgain(tx, fmt.Sprintf("%d callers wait for this transaction already", maxWaiters)))
	default:
		l.waiting[tx] = append(l.waiting[tx], reply)
	}
}
