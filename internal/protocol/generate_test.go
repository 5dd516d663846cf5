// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"strings"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/messages"
)

// genMessage is a message of a random log, before it is encoded.
type genMessage struct {
	sequence    uint64
	at          int64
	kind        messages.Kind
	participant string
	records     []genRecord
}

type genRecord struct {
	tx           messages.ID
	participants []string
	expires      int64
	vote         messages.Vote
	held         bool
	wrongOwner   uint64
	conflict     bool
	routing      uint64
	reason       string
	through      uint64
	garbage      string
}

func (m *genMessage) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d @%d %s %s", m.sequence, m.at, m.kind, m.participant)
	for line := range messages.Lines(m.encode().data) {
		fmt.Fprintf(&b, "\n    %s", line)
	}
	return b.String()
}

func (m *genMessage) encode() testMessage {
	var data []byte
	for _, r := range m.records {
		switch {
		case r.garbage != "":
			data = append(data, r.garbage...)
		case m.kind == messages.KindPrepare:
			data = messages.AppendPrepare(data, &messages.Prepare{
				Tx: r.tx, Participants: r.participants, Expires: r.expires, Routing: r.routing, Operations: []messages.Operation{{Payload: []byte("1")}},
			})
		case m.kind == messages.KindVote:
			data = messages.AppendVote(data, &messages.VoteRecord{Tx: r.tx, Vote: r.vote, Held: r.held, Reason: r.reason, WrongOwner: r.wrongOwner, Conflict: r.conflict})
		case m.kind == messages.KindAbort:
			data = messages.AppendAbort(data, &messages.Abort{Tx: r.tx, Reason: r.reason})
		default:
			data = messages.AppendFinished(data, &messages.Finished{Tx: r.tx, Through: r.through})
		}
		data = append(data, '\n')
	}
	return testMessage{m.sequence, m.at, m.kind, m.participant, data}
}

// logMaker draws a random log: mostly transactions that go their way, side by side, and among it everything that may go
// wrong: repetitions of anything at any time, late prepares with another expiry or other participants, strangers,
// garbage, a clock that jumps and steps back.
type logMaker struct {
	t        *rapid.T
	window   int64
	now      int64
	sequence uint64
	txs      []*makerTx
	log      []genMessage
}

type makerTx struct {
	id           messages.ID
	participants []string
	expires      int64
	routing      uint64
	prepared     int
	voted        int
	ended        bool
}

var makerNames = []string{"a", "b", "c"}

func drawFoldConfig(t *rapid.T) FoldConfig {
	return FoldConfig{
		Window:   rapid.Int64Range(1, 40).Draw(t, "window"),
		Remember: rapid.SampledFrom([]int{1, 2, 3, 1000}).Draw(t, "remember"),
	}
}

func drawLog(t *rapid.T, cfg FoldConfig) []genMessage {
	m := &logMaker{t: t, window: cfg.Window, now: 1000}
	for range 1 + pick(t, "messages", 70) {
		m.message()
	}
	return m.log
}

func (m *logMaker) pick(label string, n int) int { return pick(m.t, label, n) }

// pick draws one of n numbers, all alike: rapid's IntRange prefers the small ones.
func pick(t *rapid.T, label string, n int) int { return rapid.SampledFrom(numbers[:n]).Draw(t, label) }

var numbers = func() (numbers [512]int) {
	for i := range numbers {
		numbers[i] = i
	}
	return numbers
}()

func (m *logMaker) message() {
	m.clock()
	m.sequence++
	first := m.action()
	msg := genMessage{m.sequence, m.now, first.kind, first.participant, []genRecord{first.record}}
	for range m.pick("company", 3) {
		if more := m.action(); more.kind == msg.kind && more.participant == msg.participant {
			msg.records = append(msg.records, more.record)
		}
	}
	m.log = append(m.log, msg)
}

func (m *logMaker) clock() {
	switch m.pick("clock", 20) {
	case 0:
		m.now += m.window
	case 1:
		m.now += m.window + 1 + int64(m.pick("jump", 40))
	case 2:
		m.now -= int64(m.pick("step", 30))
	case 3, 4, 5, 6, 7, 8:
		m.now += int64(m.pick("ms", 4))
	}
}

// action is a record and its subject.
type action struct {
	kind        messages.Kind
	participant string
	record      genRecord
}

func (m *logMaker) action() action {
	what := m.pick("action", 20)
	if len(m.txs) == 0 || what < 3 {
		return m.begin()
	}
	if what < 13 {
		for _, tx := range m.txs {
			if !tx.ended && m.pick("turn", 3) > 0 {
				return m.goOn(tx)
			}
		}
	}
	return m.chaos(m.txs[m.pick("tx", len(m.txs))])
}

func (m *logMaker) begin() action {
	minted := m.now + int64(m.pick("skew", 2*int(min(m.window, 10))+1)) - min(m.window, 10)
	tx := &makerTx{
		id:           testID(minted, len(m.txs)+1),
		participants: makerNames[m.pick("lowest", 2) : 1+m.pick("highest", 2)+1],
		expires:      m.now + int64(m.pick("timeout", 60)) - 3,
		routing:      uint64(m.pick("routing", 3)),
	}
	m.txs = append(m.txs, tx)
	return m.goOn(tx)
}

// goOn is the next record of a transaction that goes its way.
func (m *logMaker) goOn(tx *makerTx) action {
	switch {
	case tx.prepared < len(tx.participants):
		tx.prepared++
		return m.prepare(tx, tx.participants[tx.prepared-1], tx.expires, tx.participants)
	case tx.voted < len(tx.participants):
		tx.voted++
		vote := rapid.SampledFrom([]messages.Vote{messages.VoteYes, messages.VoteYes, messages.VoteYes, messages.VoteReadOnly}).Draw(m.t, "vote")
		return action{messages.KindVote, tx.participants[tx.voted-1], genRecord{tx: tx.id, vote: vote}}
	default:
		tx.ended = true
		return action{messages.KindFinished, "", genRecord{tx: tx.id, through: m.sequence}}
	}
}

func (m *logMaker) prepare(tx *makerTx, participant string, expires int64, participants []string) action {
	return action{messages.KindPrepare, participant, genRecord{tx: tx.id, participants: participants, expires: expires, routing: tx.routing}}
}

func (m *logMaker) chaos(tx *makerTx) action {
	who := rapid.SampledFrom([]string{"a", "b", "c", "x"}).Draw(m.t, "who")
	switch m.pick("chaos", 13) {
	case 12: // another client's, who shares the id
		other := *tx
		other.routing = uint64(m.pick("other routing", 3))
		return m.prepare(&other, who, tx.expires, rapid.SampledFrom([][]string{tx.participants, makerNames}).Draw(m.t, "other participants"))
	case 0, 1:
		return m.prepare(tx, who, tx.expires, tx.participants)
	case 2:
		return m.prepare(tx, who, m.now+50, tx.participants)
	case 3:
		return m.prepare(tx, who, tx.expires, makerNames)
	case 4:
		return action{messages.KindAbort, "", genRecord{tx: tx.id, reason: "client"}}
	case 5:
		return action{messages.KindFinished, "", genRecord{tx: tx.id, through: uint64(m.pick("through", int(m.sequence)+1))}}
	case 6:
		kind := messages.Kind(m.pick("kind", 5))
		return action{kind, who, genRecord{garbage: `{"tx":"` + tx.id.String() + `","garbage":1}`}}
	case 7:
		no := genRecord{tx: tx.id, vote: messages.VoteNo, held: m.pick("held", 2) == 0, reason: "no"}
		if m.pick("moved", 2) == 0 {
			no.wrongOwner = uint64(1 + m.pick("epoch", 3))
		}
		no.conflict = m.pick("conflict", 2) == 0
		return action{messages.KindVote, who, no}
	case 8:
		return action{messages.KindVote, who, genRecord{tx: tx.id, vote: messages.VoteReadOnly}}
	default:
		return action{messages.KindVote, who, genRecord{tx: tx.id, vote: messages.VoteYes}}
	}
}
