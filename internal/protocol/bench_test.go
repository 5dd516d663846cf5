// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/assent-tx/assent/messages"
)

// load is a log of transactions with two participants, in messages of `group` records each, made a round at a time: the
// same bytes are written again and again, with other ids.
type load struct {
	group    int
	sequence uint64
	now      int64
	n        int
	data     []byte
	prepare  messages.Prepare
}

func newLoad(group int) *load {
	return &load{group: group, now: 1_000_000, prepare: messages.Prepare{
		Participants: []string{"bank-a", "bank-b"},
		Operations:   []messages.Operation{{Keys: []string{"account/1"}, Payload: []byte(`{"amount":100}`)}},
	}}
}

func (l *load) id(i int) messages.ID { return testID(l.now, l.n+i) }

// round gives the five messages of `group` transactions to read; their bytes are valid during the call only.
func (l *load) round(read func(testMessage)) {
	l.now++
	for _, p := range l.prepare.Participants {
		l.message(read, messages.KindPrepare, p, func(b []byte, id messages.ID) []byte {
			l.prepare.Tx, l.prepare.Expires = id, l.now+30_000
			return messages.AppendPrepare(b, &l.prepare)
		})
	}
	for _, p := range l.prepare.Participants {
		l.message(read, messages.KindVote, p, func(b []byte, id messages.ID) []byte {
			return messages.AppendVote(b, &messages.VoteRecord{Tx: id, Vote: messages.VoteYes})
		})
	}
	l.message(read, messages.KindFinished, "", func(b []byte, id messages.ID) []byte {
		return messages.AppendFinished(b, &messages.Finished{Tx: id, Through: l.sequence})
	})
	l.n += l.group
}

func (l *load) message(read func(testMessage), kind messages.Kind, participant string, record func([]byte, messages.ID) []byte) {
	l.data = l.data[:0]
	for i := range l.group {
		l.data = append(record(l.data, l.id(i)), '\n')
	}
	l.sequence++
	read(testMessage{l.sequence, l.now, kind, participant, l.data})
}

// BenchmarkFold is the cost of a transaction with two participants, decoding included, by how many records share a message.
func BenchmarkFold(b *testing.B) {
	for _, group := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("records=%d", group), func(b *testing.B) {
			f := NewFold(FoldConfig{Window: 2000, Remember: 1_000_000}, Checkpoint{})
			l := newLoad(group)
			b.ReportAllocs()
			var log []testMessage
			for n := 0; n < b.N; {
				b.StopTimer()
				for log = log[:0]; len(log) < 5*4096/group; n += group {
					l.round(func(m testMessage) {
						m.data = append([]byte(nil), m.data...)
						log = append(log, m)
					})
				}
				b.StartTimer()
				for _, m := range log {
					if err := f.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
						b.Fatal(err)
					}
					f.Take()
				}
			}
			if open, _ := f.Len(); open != 0 {
				b.Fatalf("%d open", open)
			}
		})
	}
}

// BenchmarkCheckpoint is the cost of a checkpoint with a full memory of transactions with long timeouts and 65,536 open ones.
func BenchmarkCheckpoint(b *testing.B) {
	f := NewFold(FoldConfig{Window: 1, Remember: 1_000_000}, Checkpoint{})
	l := newLoad(512)
	for l.n < 500_000 {
		l.round(func(m testMessage) {
			if err := f.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
				b.Fatal(err)
			}
		})
		f.Take()
	}
	for f.open = map[messages.ID]*transaction{}; len(f.open) < 65_536; {
		l.round(func(m testMessage) {
			if m.kind != messages.KindPrepare {
				m.data = nil
			}
			if err := f.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
				b.Fatal(err)
			}
		})
	}
	for b.Loop() {
		f.Checkpoint()
	}
}

// BenchmarkDelivery is the cost of owing, sending and settling an outcome of one transaction with two participants.
func BenchmarkDelivery(b *testing.B) {
	d := NewDelivery(DeliveryConfig{})
	names := []string{"bank-a", "bank-b"}
	var commits, rollbacks []messages.Effect
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		id := testID(int64(n), n)
		for i, name := range names {
			d.Owe(Effect{Kind: Send, Tx: id, Participant: name, Outcome: messages.Committed, Vote: uint64(i)}, 1)
		}
		for i, name := range names {
			commits, rollbacks = d.Batch(name, 1, commits[:0], rollbacks[:0])
			d.Done(name, &messages.Done{Tx: id, Vote: uint64(i)}, 1)
		}
		d.Forget(id)
		if n%1000 == 0 {
			d.Tick(int64(n))
		}
	}
}

// TestFoldMemory: a million transactions and more leave no trace: what is remembered stays within its bound, and the heap
// as large as it was once the window was full.
func TestFoldMemory(t *testing.T) {
	const remember = 20_000
	total := 1_200_000
	if testing.Short() {
		total = 200_000
	}
	f := NewFold(FoldConfig{Window: 60_000, Remember: remember}, Checkpoint{})
	l := newLoad(256)
	var early uint64
	for l.n < total {
		l.now += 800 // 75 rounds are within the window, 38 within their timeout
		stuck := l.n == 0
		l.round(func(m testMessage) {
			if stuck && m.kind == messages.KindFinished { // the first stay open all along: the checkpoint stands still
				m.data = nil
			}
			if err := f.Message(m.sequence, m.at, m.kind, m.participant, m.data); err != nil {
				t.Fatal(err)
			}
			f.Take()
		})
		open, remembered := f.Len()
		if open != l.group || remembered > remember+l.group {
			t.Fatalf("%d open, %d remembered after %d", open, remembered, l.n)
		}
		if early == 0 && l.n >= 120_000 {
			early = heapInUse()
		}
	}
	if late := heapInUse(); late > early+early/4+1<<20 {
		t.Errorf("%d bytes of heap after 120,000, %d at the end", early, late)
	}
	if at := f.Checkpoint(); at.Sequence != 1 {
		t.Errorf("%+v", at)
	}
	if f.Stats().Malformed != 0 {
		t.Error(f.Stats().LastMalformed)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
