// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent/internal/crash"
	"github.com/assent-tx/assent/internal/groupcommit"
	"github.com/assent-tx/assent/internal/protocol"
	"github.com/assent-tx/assent/messages"
)

// live is a transaction that was submitted here and is undecided.
type live struct {
	waiters []string // reply subjects
	bytes   int
	// outstanding prepares are on their way to the log, and refused ones will not come there. When all are refused the
	// transaction does not exist.
	outstanding, refused, prepares int
}

// Bounds of what a leader takes in.
const (
	// maxLiveBytes bounds the submissions that are undecided, in bytes.
	maxLiveBytes = 256 << 20
	// maxWaiters bounds those who wait for one transaction; a further one is told to try later.
	maxWaiters = 64
	// maxRemembered bounds the transactions that are remembered for their timeouts' sake, beyond the window's.
	maxRemembered = 4_000_000
)

// onSubmit takes a message of submissions. Each is its own: what is wrong with one disturbs no other.
func (l *leader) onSubmit(msg *nats.Msg) {
	count := 0
	for line := range messages.Lines(msg.Data) {
		if count++; count > messages.MaxRecords {
			l.answer(msg.Reply, &messages.Answer{
				Error: messages.CodeInvalid, Message: fmt.Sprintf("more than %d records in a message", messages.MaxRecords),
			})
			return
		}
		l.submit(line, msg.Reply)
	}
	if count == 0 {
		l.answer(msg.Reply, &messages.Answer{Error: messages.CodeInvalid, Message: "an empty message: want a transaction as JSON"})
	}
}

func (l *leader) submit(line []byte, reply string) {
	sub := &l.scratch.submission
	if err := l.decoder.Submission(line, sub); err != nil {
		l.metrics.refused.Inc()
		l.answer(reply, invalid(sub.Tx, err))
		return
	}
	if waiting := l.live[sub.Tx]; waiting != nil {
		l.join(sub.Tx, waiting, reply)
		return
	}
	verdict, known := l.fold.Lookup(sub.Tx)
	if verdict.Outcome != messages.Undecided {
		l.answer(reply, l.answerOf(sub.Tx, &verdict))
		return
	}
	if !known {
		if refusal := l.admit(sub, len(line)); refusal != nil {
			l.metrics.refused.Inc()
			l.answer(reply, l.unlessAccepted(refusal))
			return
		}
	}
	l.prepare(sub, len(line), reply, known)
}

// invalid is the answer to a submission that could not be decoded.
func invalid(tx messages.ID, err error) *messages.Answer {
	answer := &messages.Answer{Tx: tx, Error: messages.CodeInvalid, Message: err.Error()}
	var fault *messages.FieldError
	if errors.As(err, &fault) {
		answer.Field, answer.Message = fault.Field, fault.Problem
	}
	if errors.Is(err, messages.ErrTooLarge) {
		answer.Error = messages.CodeTooLarge
	}
	return answer
}

// join makes a caller wait with the others for a transaction that is live.
func (l *leader) join(tx messages.ID, waiting *live, reply string) {
	if slices.Contains(waiting.waiters, reply) {
		return
	}
	if len(waiting.waiters) >= maxWaiters {
		l.answer(reply, tryAgain(tx, fmt.Sprintf("%d callers wait for this transaction already", maxWaiters)))
		return
	}
	waiting.waiters = append(waiting.waiters, reply)
}

// admit says why a transaction that is new here cannot be taken; nil when it can.
func (l *leader) admit(sub *messages.Submission, size int) *messages.Answer {
	now := l.now()
	minted := sub.Tx.UnixMilli()
	if minted <= l.fold.Floor() || minted < now-protocol.AcceptAge || minted > now+protocol.AcceptAhead {
		return &messages.Answer{
			Tx: sub.Tx, Error: messages.CodeOutsideWindow, Field: "tx",
			Message: fmt.Sprintf("the id was minted at %s; new ids are taken from %s before to %s after the coordinator's time, %s: ask for its outcome instead",
				stamp(minted), protocol.AcceptAge*time.Millisecond, protocol.AcceptAhead*time.Millisecond, stamp(now)),
		}
	}
	for i := range sub.Operations {
		if name := sub.Operations[i].Participant; !l.registry.has(name) {
			return &messages.Answer{
				Tx: sub.Tx, Error: messages.CodeUnknownParticipant, Field: fmt.Sprintf("operations[%d].participant", i),
				Message: fmt.Sprintf("no participant %q has ever registered", name),
			}
		}
	}
	open, remembered := l.fold.Len()
	switch {
	case l.full || l.room.full():
		return overloaded(sub.Tx, "the log is full: finish open transactions, or raise its size")
	case open >= l.cfg.MaxOpen || len(l.live) >= l.cfg.MaxOpen:
		return overloaded(sub.Tx, fmt.Sprintf("%d transactions are open in the shard, as many as may be", l.cfg.MaxOpen))
	case l.liveBytes+size > maxLiveBytes:
		return overloaded(sub.Tx, fmt.Sprintf("%d bytes of submissions are undecided, as many as may be", maxLiveBytes))
	case remembered >= maxRemembered:
		return overloaded(sub.Tx, "too many finished transactions with long timeouts are remembered")
	}
	return nil
}

// unlessAccepted is what is said of a transaction that cannot be taken here now. While the shard is handed over its next leader may lead already, has
// the submission as well, and may have accepted it: then nobody may be told that it was refused.
func (l *leader) unlessAccepted(refusal *messages.Answer) *messages.Answer {
	if l.passing && (refusal.Error == messages.CodeOverloaded || refusal.Error == messages.CodeUnknownParticipant) {
		return tryAgain(refusal.Tx, refusal.Message)
	}
	return refusal
}

func tryAgain(tx messages.ID, message string) *messages.Answer {
	return &messages.Answer{Tx: tx, Error: messages.CodeTryAgain, Message: message}
}

func overloaded(tx messages.ID, message string) *messages.Answer {
	return &messages.Answer{Tx: tx, Error: messages.CodeOverloaded, Message: message}
}

// now is the leader's time: no step back of its clock can make fresh transactions expire, and one that is behind the
// server's lets none wait.
func (l *leader) now() int64 { return max(nowMilli(), l.clock.Now(), l.fold.LogTime()) }

func stamp(unixMilli int64) string {
	return time.UnixMilli(unixMilli).UTC().Format(time.RFC3339)
}

// prepare appends a transaction's prepares to the log: all of them, or when it is known from the log those that are
// missing there, because the leader before died between them.
func (l *leader) prepare(sub *messages.Submission, size int, reply string, known bool) {
	crash.Here("coordinator.submit.taken")
	p := &l.scratch.prepare
	p.Tx, p.Trace = sub.Tx, sub.Trace
	p.Participants = participantsOf(sub, p.Participants[:0])
	p.Expires = max(l.now(), sub.Tx.UnixMilli()) + sub.Timeout().Milliseconds()
	p.Routing, l.scratch.record = sub.Routing(l.scratch.record)
	p.Locks = sub.Locks
	missing := p.Participants
	if known {
		var first protocol.First
		l.scratch.missing, first = l.fold.Missing(sub.Tx, l.scratch.missing[:0])
		if first.Routing != p.Routing {
			l.otherwiseRouted(sub.Tx, len(l.scratch.missing), reply)
			return
		}
		missing, p.Participants = l.scratch.missing, append(p.Participants[:0], first.Participants...)
		p.Expires, p.Since = first.Expires, first.Since
	} else {
		p.Since = l.ages.since(sub, l.now())
	}
	if refusal := l.tooLarge(p, sub); refusal != nil {
		l.answer(reply, refusal)
		return
	}
	waiting := &live{waiters: []string{reply}, bytes: size, outstanding: len(missing), prepares: len(missing)}
	if known {
		waiting.prepares = messages.MaxParticipants + 1 // some are in the log: it exists, whatever is refused
	}
	l.live[sub.Tx] = waiting
	l.liveBytes += size
	l.room.take(size, len(missing))
	for _, name := range missing {
		p.Operations = operationsFor(sub, name, p.Operations[:0])
		if len(p.Operations) == 0 { // a repeated submission that is another transaction than the first
			continue
		}
		l.scratch.record = messages.AppendPrepare(l.scratch.record[:0], p)
		l.write(l.prepareSubject(name), sub.Tx)
		crash.Here("coordinator.prepare.appended")
	}
}

// otherwiseRouted takes the repetition of a transaction whose operations went to other participants the first time. It waits
// for the outcome of the first; if that is not in the log as a whole, whoever submitted it has to complete it, and is
// perhaps no more: it is aborted.
func (l *leader) otherwiseRouted(tx messages.ID, missing int, reply string) {
	if missing > 0 {
		l.appendAbort(tx, protocol.ReasonRouting)
	}
	l.wait(&messages.Wait{Tx: tx}, reply)
}

// tooLarge refuses a transaction one of whose prepares would be over the limit, though the submission is not.
func (l *leader) tooLarge(p *messages.Prepare, sub *messages.Submission) *messages.Answer {
	const perName = messages.MaxName + 3
	const perRoute = messages.MaxName + 100
	const perLock = messages.MaxToken + 30
	p.Operations = p.Operations[:0]
	size := 0
	for i := range sub.Operations {
		op := &sub.Operations[i]
		size += len(op.Payload) + 48
		if op.Route != nil {
			size += perRoute + 6*len(op.Route.Key)
		}
		size += sizeOfKeys(op.Keys) + sizeOfKeys(op.Shared)
	}
	for i := range sub.Locks {
		size += perLock + 6*len(sub.Locks[i].Key)
	}
	if size+len(p.Participants)*perName+256 <= messages.MaxRecord {
		return nil // even if all were one branch's
	}
	for i, name := range p.Participants {
		p.Operations = operationsFor(sub, name, p.Operations[:0])
		l.scratch.record = messages.AppendPrepare(l.scratch.record[:0], p)
		if size := len(l.scratch.record); size > messages.MaxRecord {
			return &messages.Answer{
				Tx: sub.Tx, Error: messages.CodeTooLarge, Field: fmt.Sprintf("participants[%d]", i),
				Message: fmt.Sprintf("the prepare for %s would have %d bytes; at most %d", name, size, messages.MaxRecord),
			}
		}
	}
	return nil
}

// sizeOfKeys is what keys take in a record at the most: an escape has six bytes.
func sizeOfKeys(keys []string) (size int) {
	for _, key := range keys {
		size += 6*len(key) + 3
	}
	return size
}

func participantsOf(sub *messages.Submission, names []string) []string {
	for i := range sub.Operations {
		if name := sub.Operations[i].Participant; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func operationsFor(sub *messages.Submission, participant string, ops []messages.Operation) []messages.Operation {
	for i := range sub.Operations {
		if op := sub.Operations[i]; op.Participant == participant {
			op.Participant = ""
			ops = append(ops, op)
		}
	}
	return ops
}

// onSettled hears of prepares that the log took or refused.
func (l *leader) onSettled(s settled) {
	for _, tx := range s.txs {
		waiting := l.live[tx]
		if waiting == nil {
			continue
		}
		waiting.outstanding--
		if errors.Is(s.err, groupcommit.ErrRefused) { // any other error leaves open whether the log has it
			waiting.refused++
			l.full = l.full || isFull(s.err)
		}
		if waiting.refused == 0 || waiting.outstanding > 0 {
			continue
		}
		if waiting.refused == waiting.prepares {
			l.answerAll(tx, l.unlessAccepted(refusedByLog(tx, s.err)))
			continue
		}
		l.appendAbort(tx, "the log was full")
	}
}

// refusedByLog is the answer when the log took nothing of a transaction: for want of room, or because the server's
// max_payload is smaller than a prepare.
func refusedByLog(tx messages.ID, err error) *messages.Answer {
	if isFull(err) {
		return overloaded(tx, "the log is full: nothing of the transaction was written")
	}
	return &messages.Answer{Tx: tx, Error: messages.CodeTooLarge, Message: err.Error()}
}

// isFull tells whether JetStream refused a message for want of room.
func isFull(err error) bool {
	var refusal *jetstream.APIError
	if !errors.As(err, &refusal) {
		return false
	}
	switch refusal.ErrorCode {
	case 10077, // maximum messages or bytes exceeded
		10023, 10028, 10047: // insufficient resources, storage exceeded, insufficient storage
		return true
	default:
		return false
	}
}
