// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"reflect"
	"slices"
	"unsafe"

	"github.com/assent-tx/assent/messages"
)

// The exploration runs the real Fold, Delivery and Branches, so it has to copy them and to tell when two are alike, some
// million times. How, it finds out by reflection, once for each type (a shape): a field that is added later is copied and
// compared without anybody thinking of it. TestExploreCopies holds both against plain reflection.

// incidental are fields that say nothing about what comes next, by type and name: room for use again, counters, and
// the times of timers, which may fire at any moment here.
var incidental = map[string]bool{
	"Fold.cfg": true, "Fold.stats": true, "Fold.decoder": true, "Fold.prepare": true, "Fold.free": true, "Fold.before": true,
	"Delivery.cfg": true, "Delivery.clock": true, "Delivery.steps": true, "owing.retryAt": true, "Delivery.free": true, "Delivery.retry": true,
	"owing.since": true, "debt.sendAt": true, "debt.attempts": true,
	"Branches.cfg": true, "Branches.timers": true,
	"branch.wakeAt": true, "branch.since": true, "branch.attempts": true, "branch.doubts": true, "branch.reason": true, "branch.wound": true,
}

// scratch are fields that a copy does without.
var scratch = map[string]bool{
	"Fold.decoder": true, "Fold.prepare": true, "Fold.free": true, "Fold.stats": true, "Delivery.free": true,
}

// shape is how values of a type are copied, and told apart.
type shape struct {
	typ reflect.Type
	// detach makes a value at to, which is as yet the same bits as that at from, share nothing with it that can change. It is nil
	// for a type whose bits are all there is.
	detach func(c *copier, to, from unsafe.Pointer)
	// append appends what matters of a value.
	append func(b []byte, at unsafe.Pointer) []byte
}

var shapes = map[reflect.Type]*shape{}

func shapeOf(t reflect.Type) *shape {
	s := shapes[t]
	if s == nil {
		s = &shape{typ: t}
		shapes[t] = s
		s.find()
	}
	return s
}

// find finds out a shape: numbers, strings, ids, and the tokens behind interfaces never change.
func (s *shape) find() {
	t := s.typ
	switch t.Kind() {
	case reflect.Pointer:
		s.pointer(shapeOf(t.Elem()))
	case reflect.Struct:
		s.structure()
	case reflect.Slice:
		s.slice(shapeOf(t.Elem()))
	case reflect.Array:
		s.array(shapeOf(t.Elem()))
	case reflect.Map:
		find, ok := mapShapes[t]
		if !ok {
			panic(fmt.Sprint("mapShapes has no ", t))
		}
		find(s, shapeOf(t.Key()), shapeOf(t.Elem()))
	case reflect.Interface:
		s.append = func(b []byte, at unsafe.Pointer) []byte {
			held := reflect.NewAt(t, at).Elem().Elem()
			if !held.IsValid() {
				return append(b, 0)
			}
			box := reflect.New(held.Type())
			box.Elem().Set(held)
			return shapeOf(held.Type()).append(append(b, 1), box.UnsafePointer())
		}
	case reflect.String:
		s.append = func(b []byte, at unsafe.Pointer) []byte {
			text := *(*string)(at)
			return append(binary.AppendUvarint(b, uint64(len(text))), text...)
		}
	case reflect.Bool, reflect.Int8, reflect.Uint8:
		s.append = func(b []byte, at unsafe.Pointer) []byte { return append(b, *(*byte)(at)) }
	case reflect.Int32, reflect.Uint32:
		s.append = func(b []byte, at unsafe.Pointer) []byte { return binary.AppendUvarint(b, uint64(*(*uint32)(at))) }
	case reflect.Int, reflect.Uint:
		s.append = func(b []byte, at unsafe.Pointer) []byte { return binary.AppendUvarint(b, uint64(*(*uint)(at))) }
	case reflect.Int64, reflect.Uint64:
		s.append = func(b []byte, at unsafe.Pointer) []byte { return binary.AppendUvarint(b, *(*uint64)(at)) }
	default:
		panic(fmt.Sprint("no shape for ", t))
	}
}

func (s *shape) pointer(elem *shape) {
	s.detach = func(c *copier, to, from unsafe.Pointer) {
		if p := *(*unsafe.Pointer)(from); p != nil {
			*(*unsafe.Pointer)(to) = c.copy(elem, p)
		}
	}
	s.append = func(b []byte, at unsafe.Pointer) []byte {
		p := *(*unsafe.Pointer)(at)
		if p == nil {
			return append(b, 0)
		}
		return elem.append(append(b, 1), p)
	}
}

func (s *shape) structure() {
	type part struct {
		offset uintptr
		*shape
	}
	var detached, emptied, appended []part
	for i := range s.typ.NumField() {
		f := s.typ.Field(i)
		name := s.typ.Name() + "." + f.Name
		if scratch[name] {
			emptied = append(emptied, part{f.Offset, &shape{typ: f.Type}})
			continue
		}
		p := part{f.Offset, shapeOf(f.Type)}
		if p.detach != nil {
			detached = append(detached, p)
		}
		if !incidental[name] {
			appended = append(appended, p)
		}
	}
	if len(detached)+len(emptied) > 0 {
		s.detach = func(c *copier, to, from unsafe.Pointer) {
			for i := range emptied {
				reflect.NewAt(emptied[i].typ, unsafe.Add(to, emptied[i].offset)).Elem().SetZero()
			}
			for i := range detached {
				offset := detached[i].offset
				detached[i].detach(c, unsafe.Add(to, offset), unsafe.Add(from, offset))
			}
		}
	}
	s.append = func(b []byte, at unsafe.Pointer) []byte {
		for i := range appended {
			b = appended[i].append(b, unsafe.Add(at, appended[i].offset))
		}
		return b
	}
}

func (s *shape) slice(elem *shape) {
	size := elem.typ.Size()
	s.detach = func(c *copier, to, from unsafe.Pointer) {
		held := (*[]struct{})(from) // the length is the same, whatever the elements are
		if len(*held) == 0 {
			if *held != nil {
				reflect.NewAt(s.typ, to).Elem().SetCap(0) // what is appended must not be shared
			}
			return
		}
		made := reflect.MakeSlice(s.typ, len(*held), len(*held))
		reflect.Copy(made, reflect.NewAt(s.typ, from).Elem())
		reflect.NewAt(s.typ, to).Elem().Set(made)
		if elem.detach != nil {
			fresh, old := made.UnsafePointer(), unsafe.Pointer(unsafe.SliceData(*held))
			for i := range uintptr(len(*held)) {
				elem.detach(c, unsafe.Add(fresh, i*size), unsafe.Add(old, i*size))
			}
		}
	}
	s.append = func(b []byte, at unsafe.Pointer) []byte {
		held := *(*[]struct{})(at)
		b = binary.AppendUvarint(b, uint64(len(held)))
		for i := range uintptr(len(held)) {
			b = elem.append(b, unsafe.Add(unsafe.Pointer(unsafe.SliceData(held)), i*size))
		}
		return b
	}
}

func (s *shape) array(elem *shape) {
	if elem.detach != nil {
		panic(fmt.Sprint("no shape for ", s.typ))
	}
	size, length := elem.typ.Size(), uintptr(s.typ.Len())
	s.append = func(b []byte, at unsafe.Pointer) []byte {
		if elem.typ.Kind() == reflect.Uint8 {
			return append(b, unsafe.Slice((*byte)(at), length)...)
		}
		for i := range length {
			b = elem.append(b, unsafe.Add(at, i*size))
		}
		return b
	}
}

// mapShapes are for the maps that there are: to go over one by reflection would take longer than all the rest.
var mapShapes = map[reflect.Type]func(s, key, value *shape){
	reflect.TypeFor[map[messages.ID]*transaction]():  mapShape[messages.ID, *transaction],
	reflect.TypeFor[map[messages.ID]remembered]():    mapShape[messages.ID, remembered],
	reflect.TypeFor[map[messages.ID]refusal]():       mapShape[messages.ID, refusal],
	reflect.TypeFor[map[messages.ID]span]():          mapShape[messages.ID, span],
	reflect.TypeFor[map[messages.ID]*owing]():        mapShape[messages.ID, *owing],
	reflect.TypeFor[map[messages.ID]*branch]():       mapShape[messages.ID, *branch],
	reflect.TypeFor[map[messages.ID]settledBranch](): mapShape[messages.ID, settledBranch],
	reflect.TypeFor[map[string]*peer]():              mapShape[string, *peer],
	reflect.TypeFor[map[string]uint32]():             mapShape[string, uint32],
}

func mapShape[K comparable, V any](s, key, value *shape) {
	s.detach = func(c *copier, to, from unsafe.Pointer) {
		held := *(*map[K]V)(from)
		if held == nil {
			return
		}
		made := make(map[K]V, len(held))
		for k, v := range held {
			if value.detach != nil {
				fresh := v
				value.detach(c, unsafe.Pointer(&fresh), unsafe.Pointer(&v))
				v = fresh
			}
			made[k] = v
		}
		*(*map[K]V)(to) = made
	}
	s.append = func(b []byte, at unsafe.Pointer) []byte {
		held := *(*map[K]V)(at)
		b = binary.AppendUvarint(b, uint64(len(held)))
		if len(held) < 2 {
			for k, v := range held {
				b = value.append(key.append(b, unsafe.Pointer(&k)), unsafe.Pointer(&v))
			}
			return b
		}
		entries := make([][]byte, 0, len(held))
		for k, v := range held {
			entries = append(entries, value.append(key.append(nil, unsafe.Pointer(&k)), unsafe.Pointer(&v)))
		}
		slices.SortFunc(entries, bytes.Compare)
		for _, entry := range entries {
			b = append(b, entry...)
		}
		return b
	}
}

// copier remembers the pointers that it has met, so that what is one thing stays one.
type copier []struct{ from, to unsafe.Pointer }

func (c *copier) copy(s *shape, from unsafe.Pointer) unsafe.Pointer {
	for _, known := range *c {
		if known.from == from {
			return known.to
		}
	}
	made := reflect.New(s.typ)
	made.Elem().Set(reflect.NewAt(s.typ, from).Elem())
	to := made.UnsafePointer()
	*c = append(*c, struct{ from, to unsafe.Pointer }{from, to})
	if s.detach != nil {
		s.detach(c, to, from)
	}
	return to
}

// deepCopy gives a copy of *v that shares nothing with it that can change.
func deepCopy[T any](v *T) *T {
	var c copier
	return (*T)(c.copy(shapeOf(reflect.TypeFor[T]()), unsafe.Pointer(v)))
}

// digest stands for everything that matters of a value: two values with the same digest behave alike.
type digest [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digestBytes(b []byte) digest {
	return digest{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

func digestOf[T any](v *T) digest {
	return digestBytes(appendValue(make([]byte, 0, 512), v))
}

func appendValue[T any](b []byte, v *T) []byte {
	return shapeOf(reflect.TypeFor[T]()).append(b, unsafe.Pointer(v))
}
