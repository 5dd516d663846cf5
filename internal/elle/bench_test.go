// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// million is a history of many transactions by 16 processes on 8 keys at a time, each of which gives way to another one after 32
// appends. With the fault, one in a thousand of its reads misses the last value.
func million(b *testing.B, transactions int, fault bool) []byte {
	b.Helper()
	var out bytes.Buffer
	encoder := NewEncoder(&out)
	r := rand.New(rand.NewPCG(1, 2))
	lists := make([][]int64, 8)
	names := make([]int, 8)
	encode := func(e *Event) {
		if err := encoder.Encode(e); err != nil {
			b.Fatal(err)
		}
	}
	open := make([]*Event, 16)
	for i := range transactions {
		p := r.IntN(len(open))
		if open[p] != nil {
			encode(open[p])
		}
		e := &Event{Type: Invoke, Process: int32(p), Tx: fmt.Sprintf("019ac7c2-73e8-7c54-9d1e-%012d", i)}
		done := &Event{Type: OK, Process: int32(p), Tx: e.Tx}
		for range 1 + r.IntN(4) {
			k := r.IntN(len(lists))
			name := fmt.Sprint("k", names[k]*len(lists)+k)
			if r.IntN(2) == 0 {
				values := append([]int64{}, lists[k]...)
				if fault && len(values) > 0 && r.IntN(1000) == 0 {
					values = values[:len(values)-1]
				}
				e.Operations = append(e.Operations, Operation{Op: Read, Key: name})
				done.Operations = append(done.Operations, Operation{Op: Read, Key: name, Values: values})
				continue
			}
			value := int64(len(lists[k]) + 1)
			lists[k] = append(lists[k], value)
			o := Operation{Op: Append, Key: name, Value: &value}
			e.Operations, done.Operations = append(e.Operations, o), append(done.Operations, o)
			if len(lists[k]) == 32 {
				lists[k], names[k] = nil, names[k]+1
			}
		}
		encode(e)
		open[p] = done
	}
	return out.Bytes()
}

func BenchmarkDecode(b *testing.B) {
	const transactions = 100_000
	data := million(b, transactions, false)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(transactions*b.N)/b.Elapsed().Seconds(), "transactions/s")
}

func BenchmarkCheck(b *testing.B) {
	const transactions = 100_000
	for _, fault := range []bool{false, true} {
		b.Run(fmt.Sprintf("fault=%v", fault), func(b *testing.B) {
			h, err := Decode(bytes.NewReader(million(b, transactions, fault)))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if r := Check(h, Options{}); r.OK() == fault {
					b.Fatal(r.Counts)
				}
			}
			b.ReportMetric(float64(transactions*b.N)/b.Elapsed().Seconds(), "transactions/s")
		})
	}
}
