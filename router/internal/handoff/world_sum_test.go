// SPDX-License-Identifier: Apache-2.0

package handoff

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"reflect"
	"slices"
)

// Worlds that differ only in what has no consequence are one. A world's sum stands for all that has.

var seed = maphash.MakeSeed()

// recordSums are the sums of records, by their pointers: a record never changes.
var recordSums = map[*Record]uint64{}

func (r *Record) sum() uint64 {
	sum, ok := recordSums[r]
	if !ok {
		sum = maphash.Bytes(seed, r.Encode())
		recordSums[r] = sum
	}
	return sum
}

func (w *world) sum() uint64 {
	b := make([]byte, 0, 512)
	for _, r := range w.records {
		b = binary.LittleEndian.AppendUint64(b, r.sum())
	}
	for i := range w.scope.nodes {
		if w.nodes[i].sum == 0 {
			w.nodes[i].sum = maphash.Bytes(seed, w.nodes[i].encode(w.scope))
		}
		b = binary.LittleEndian.AppendUint64(b, w.nodes[i].sum)
	}
	b = append(b, byte(w.changed), byte(w.left.crashes), byte(w.left.losses), byte(w.left.failures), byte(w.left.leaves), byte(w.left.recreations))
	for p := range w.scope.partitions {
		for i := range w.scope.nodes {
			r := w.released[p][i]
			b = append(append(b, byte(r.session), byte(r.since), byte(w.had[p][i])), r.to...)
		}
	}
	return maphash.Bytes(seed, b)
}

func (m *member) encode(s *scope) []byte {
	b := []byte{byte(m.sessions), flags(m.joined, m.leaving, m.holder != nil, m.saying != nil), byte(m.ended), byte(m.open), byte(m.open >> 8)}
	for p := range s.partitions {
		b = append(append(b, byte(m.work[p]), byte(m.durable[p]), byte(m.hooks[p])), m.to[p]...)
	}
	for i := range m.said {
		b = appendValue(b, reflect.ValueOf(m.said[i]))
	}
	if m.saying != nil {
		b = appendValue(b, reflect.ValueOf(*m.saying))
	}
	if m.holder == nil {
		return b
	}
	h := m.holder
	b = append(append(b, h.session...), byte(h.incarnation), flags(h.gone, h.recalling, h.announce))
	if h.record != nil {
		b = binary.LittleEndian.AppendUint64(b, h.record.sum())
	}
	for _, p := range slices.Sorted(maps.Keys(h.holdings)) {
		o := *h.holdings[p]
		o.from, o.cameBy, o.to = "", 0, "" // they are only passed on
		b = appendValue(append(b, byte(p)), reflect.ValueOf(o))
	}
	return b
}

func flags(set ...bool) byte {
	b := byte(0)
	for i, f := range set {
		if f {
			b |= 1 << i
		}
	}
	return b
}

// appendValue encodes a value of which nothing is a pointer or a map; a field that is added later is encoded without anybody thinking
// of it.
func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
		return b
	case reflect.Slice:
		b = append(b, byte(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
		return b
	case reflect.String:
		return append(append(b, byte(v.Len())), v.String()...)
	case reflect.Bool:
		return append(b, flags(v.Bool()))
	default:
		if v.CanUint() {
			return binary.AppendUvarint(b, v.Uint())
		}
		return binary.AppendVarint(b, v.Int())
	}
}

// decided are decisions made before: the same record and view come again and again.
var decided = map[uint64]*Record{}

// decide is Decide, remembered.
func decide(r *Record, v *View) (*Record, bool) {
	b := binary.LittleEndian.AppendUint64(nil, r.sum())
	for _, name := range slices.Sorted(maps.Keys(v.Nodes)) {
		b = appendValue(append(b, name...), reflect.ValueOf(v.Nodes[name]))
	}
	for _, session := range slices.Sorted(maps.Keys(v.Ended)) {
		b = binary.AppendVarint(append(b, session...), v.Ended[session])
	}
	key := maphash.Bytes(seed, b)
	next, ok := decided[key]
	if !ok {
		next, _ = Decide(r, v)
		decided[key] = next
	}
	return next, ok
}
