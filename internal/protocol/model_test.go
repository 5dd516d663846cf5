// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/assent-tx/assent/messages"
)

// The rules once more, written for being read, not for speed: modelOf works a whole log out from its beginning, with
// slices that it searches from end to end. The fold must agree with it after every message.

// model is what is known after a log.
type model struct {
	cfg     FoldConfig
	logTime int64
	floor   int64
	known   []*modelTx // in the order in which they became known
	ends    int        // how often a transaction was finished
	effects []string   // of the last message
	late    int
}

type modelTx struct {
	id           messages.ID
	participants []string
	all          []string // also those that a recalled one has not
	routing      uint64
	expires      int64
	prepared     []string
	votes        []modelVote // those that counted, or were answered
	outcome      messages.Outcome
	refuser      string
	reason       string
	wrongOwner   uint64
	conflict     bool
	recalled     bool
	// finished: end is the number of the end, at is when.
	finished  bool
	end       int
	at        int64
	lingering bool
}

type modelVote struct {
	who      string
	vote     messages.Vote
	held     bool
	sequence uint64
}

func modelOf(cfg FoldConfig, log []genMessage) *model {
	m := &model{cfg: cfg}
	for i := range log {
		m.effects = nil
		m.read(&log[i])
	}
	return m
}

func (m *model) say(format string, args ...any) {
	m.effects = append(m.effects, fmt.Sprintf(format, args...))
}

func (m *model) read(msg *genMessage) {
	m.logTime = max(m.logTime, msg.at)
	m.expire()
	m.forget()
	for _, r := range msg.records {
		switch {
		case r.garbage != "":
		case msg.kind == messages.KindPrepare:
			m.prepare(msg, r)
		case msg.kind == messages.KindVote:
			m.vote(msg, r)
		case msg.kind == messages.KindAbort:
			if tx := m.find(r.tx); tx != nil && tx.outcome == messages.Undecided {
				m.decide(tx, messages.Aborted, "", r.reason, 0, false)
			}
		case msg.kind == messages.KindFinished:
			if tx := m.find(r.tx); tx != nil && tx.outcome != messages.Undecided && !tx.finished && tx.lastYes("") <= r.through {
				m.finish(tx)
			}
		}
	}
}

func (m *model) find(id messages.ID) *modelTx {
	for _, tx := range m.known {
		if tx.id == id {
			return tx
		}
	}
	return nil
}

func (m *model) expire() {
	var expired []*modelTx
	for _, tx := range m.known {
		if tx.outcome == messages.Undecided && m.logTime > tx.expires {
			expired = append(expired, tx)
		}
	}
	slices.SortFunc(expired, func(a, b *modelTx) int {
		if a.expires != b.expires {
			return int(a.expires - b.expires)
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
	for _, tx := range expired {
		m.decide(tx, messages.Aborted, "", "timeout", 0, false)
	}
}

func (m *model) forget() {
	for {
		var oldest *modelTx
		inWindow := 0
		for _, tx := range m.known {
			if !tx.finished || tx.lingering {
				continue
			}
			inWindow++
			if oldest == nil || tx.end < oldest.end {
				oldest = tx
			}
		}
		if oldest == nil || (m.logTime-oldest.at <= m.cfg.Window && inWindow <= m.cfg.Remember) {
			break
		}
		oldest.lingering = true
	}
	m.known = slices.DeleteFunc(m.known, func(tx *modelTx) bool {
		gone := tx.lingering && m.logTime > tx.expires && (m.logTime > tx.id.UnixMilli() || m.logTime-tx.at > m.cfg.Window)
		if gone {
			m.floor = max(m.floor, min(tx.id.UnixMilli(), m.logTime))
		}
		return gone
	})
}

func (m *model) prepare(msg *genMessage, r genRecord) {
	if !slices.Contains(r.participants, msg.participant) {
		return
	}
	tx := m.find(r.tx)
	if tx == nil {
		if m.floor != 0 && r.tx.UnixMilli() <= m.floor {
			m.late++
			m.say("%s ignored", r.tx)
			return
		}
		tx = &modelTx{id: r.tx, participants: r.participants, all: r.participants, expires: r.expires, routing: r.routing}
		m.known = append(m.known, tx)
	}
	if tx.finished || !slices.Contains(tx.participants, msg.participant) {
		return
	}
	tx.prepared = append(tx.prepared, msg.participant)
	if tx.outcome == messages.Undecided && m.logTime > tx.expires {
		m.decide(tx, messages.Aborted, "", "timeout", 0, false)
	}
	if tx.outcome == messages.Undecided && tx.routing != r.routing {
		m.decide(tx, messages.Aborted, "", "submitted twice, and routed differently", 0, false)
	}
}

func (m *model) vote(msg *genMessage, r genRecord) {
	vote := modelVote{msg.participant, r.vote, r.held, msg.sequence}
	tx := m.find(r.tx)
	switch {
	case tx == nil || !slices.Contains(tx.all, msg.participant):
		if vote.holds() {
			m.say("send %s aborted to %s for %d, presumed", r.tx, msg.participant, msg.sequence)
		}
		return
	case tx.finished:
		if !vote.holds() {
			return
		}
		tx.finished, tx.lingering, tx.recalled = false, false, true
		tx.participants, tx.votes, tx.prepared = []string{msg.participant}, nil, nil
	case tx.recalled && vote.holds() && !slices.Contains(tx.participants, msg.participant):
		tx.participants = append(slices.Clip(tx.participants), msg.participant)
	}
	if !slices.Contains(tx.participants, msg.participant) {
		return
	}
	if tx.outcome != messages.Undecided {
		if vote.holds() {
			tx.votes = append(tx.votes, vote)
			m.send(tx, msg.participant)
		}
		return
	}
	tx.votes = append(tx.votes, vote)
	if r.vote == messages.VoteNo {
		m.decide(tx, messages.Aborted, msg.participant, r.reason, r.wrongOwner, r.conflict)
		return
	}
	for _, p := range tx.participants {
		if !tx.said(p, messages.VoteYes) && !tx.said(p, messages.VoteReadOnly) {
			return
		}
	}
	m.decide(tx, messages.Committed, "", "", 0, false)
}

func (tx *modelTx) said(who string, vote messages.Vote) bool {
	return slices.ContainsFunc(tx.votes, func(v modelVote) bool { return v.who == who && v.vote == vote && !v.held })
}

// holds: a yes, or a no that is held, which asks for the outcome as well.
func (v modelVote) holds() bool {
	return v.vote == messages.VoteYes || (v.vote == messages.VoteNo && v.held)
}

// lastYes is the sequence of a participant's last vote that holds, or of anyone's; 0 for none.
func (tx *modelTx) lastYes(who string) (sequence uint64) {
	for _, v := range tx.votes {
		if v.holds() && (who == "" || v.who == who) {
			sequence = v.sequence
		}
	}
	return sequence
}

func (m *model) decide(tx *modelTx, outcome messages.Outcome, refuser, reason string, wrongOwner uint64, conflict bool) {
	tx.outcome, tx.refuser, tx.reason, tx.wrongOwner, tx.conflict = outcome, refuser, reason, wrongOwner, conflict
	m.say("%s %s by %q: %q, wrong owner %d, conflict %v", tx.id, outcome, refuser, reason, wrongOwner, conflict)
	owed := tx.owed()
	for _, p := range owed {
		m.send(tx, p)
	}
	if len(owed) == 0 {
		m.finish(tx)
	}
}

func (tx *modelTx) owed() (owed []string) {
	for _, p := range tx.participants {
		letGo := tx.said(p, messages.VoteNo) || tx.said(p, messages.VoteReadOnly)
		if tx.lastYes(p) != 0 || !letGo {
			owed = append(owed, p)
		}
	}
	return owed
}

func (m *model) send(tx *modelTx, participant string) {
	m.say("send %s %s to %s for %d, expires %d", tx.id, tx.outcome, participant, tx.lastYes(participant), tx.expires)
}

func (m *model) finish(tx *modelTx) {
	m.ends++
	tx.finished, tx.end, tx.at = true, m.ends, m.logTime
	m.say("%s finished", tx.id)
}

// view is what the fold should say of a transaction.
func (m *model) view(id messages.ID) string {
	tx := m.find(id)
	if tx == nil {
		return "not known"
	}
	v := View{
		Tx: id, Outcome: tx.outcome, Participant: tx.refuser, Reason: tx.reason, WrongOwner: tx.wrongOwner, Conflict: tx.conflict,
		Expires: tx.expires, Finished: tx.finished,
	}
	if tx.finished {
		return fmt.Sprintf("%+v", v)
	}
	for _, p := range tx.participants {
		b := BranchView{Participant: p, Prepared: slices.Contains(tx.prepared, p)}
		switch {
		case tx.said(p, messages.VoteYes):
			b.Vote = messages.VoteYes
		case p == tx.refuser:
			b.Vote = messages.VoteNo
		case tx.said(p, messages.VoteReadOnly):
			b.Vote = messages.VoteReadOnly
		}
		v.Branches = append(v.Branches, b)
	}
	return fmt.Sprintf("%+v", v)
}

// viewOf is the same, as the fold says it.
func viewOf(f *Fold, id messages.ID) string {
	v, known := f.View(id)
	if !known {
		return "not known"
	}
	return fmt.Sprintf("%+v", v)
}

// effectsOf are a fold's effects since the last time, as the model says them.
func effectsOf(f *Fold) (effects []string) {
	for _, e := range f.Take() {
		effects = append(effects, effectText(e))
	}
	return effects
}

func effectText(e Effect) string {
	switch {
	case e.Kind == Decided:
		return fmt.Sprintf("%s %s by %q: %q, wrong owner %d, conflict %v", e.Tx, e.Outcome, e.Participant, e.Reason, e.WrongOwner, e.Conflict)
	case e.Kind == Finished:
		return fmt.Sprintf("%s finished", e.Tx)
	case e.Kind == Ignored:
		return fmt.Sprintf("%s ignored", e.Tx)
	case e.Presumed:
		return fmt.Sprintf("send %s %s to %s for %d, presumed", e.Tx, e.Outcome, e.Participant, e.Vote)
	default:
		return fmt.Sprintf("send %s %s to %s for %d, expires %d", e.Tx, e.Outcome, e.Participant, e.Vote, e.Expires)
	}
}
