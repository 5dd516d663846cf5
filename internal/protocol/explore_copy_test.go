// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"reflect"
	"slices"
	"strings"
	"unsafe"
)

// The exploration runs the real Fold, Delivery and Branches, so it has to copy them and to tell when two are alike. It
// does both by reflection: a field that is added later is copied and compared without anybody thinking of it.

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

// deepCopy gives a copy of *v that shares nothing with it that can change.
func deepCopy[T any](v *T) *T {
	copied := new(T)
	c := copier{}
	c.into(reflect.ValueOf(copied).Elem(), reflect.ValueOf(v).Elem())
	return copied
}

// copier remembers the pointers that it has met, so that what is one thing stays one.
type copier map[unsafe.Pointer]reflect.Value

func (c copier) into(to, from reflect.Value) {
	switch from.Kind() {
	case reflect.Pointer:
		if from.IsNil() {
			return
		}
		known, ok := c[from.UnsafePointer()]
		if !ok {
			known = reflect.New(from.Type().Elem())
			c[from.UnsafePointer()] = known
			c.into(known.Elem(), from.Elem())
		}
		to.Set(known)
	case reflect.Struct:
		f := fieldsOf(from.Type())
		for i := range f {
			if !f[i].scratch {
				c.into(field(to, i), field(from, i))
			}
		}
	case reflect.Slice:
		if from.IsNil() {
			return
		}
		made := reflect.MakeSlice(from.Type(), from.Len(), from.Len())
		if plain(from.Type().Elem()) {
			reflect.Copy(made, from)
		} else {
			for i := range from.Len() {
				c.into(made.Index(i), from.Index(i))
			}
		}
		to.Set(made)
	case reflect.Map:
		made := reflect.MakeMapWithSize(from.Type(), from.Len())
		for iter := from.MapRange(); iter.Next(); {
			value := reflect.New(from.Type().Elem()).Elem()
			held := reflect.New(from.Type().Elem()).Elem()
			held.Set(iter.Value())
			c.into(value, held)
			made.SetMapIndex(iter.Key(), value)
		}
		to.Set(made)
	default: // numbers, strings, ids, and the tokens behind interfaces: they never change
		to.Set(from)
	}
}

func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Struct, reflect.Slice, reflect.Map:
		return false
	default:
		return true
	}
}

type fieldInfo struct{ scratch, incidental bool }

var fieldInfos = map[reflect.Type][]fieldInfo{}

func fieldsOf(t reflect.Type) []fieldInfo {
	infos, ok := fieldInfos[t]
	if !ok {
		for i := range t.NumField() {
			name := t.Name() + "." + t.Field(i).Name
			infos = append(infos, fieldInfo{scratch[name], incidental[name]})
		}
		fieldInfos[t] = infos
	}
	return infos
}

// field is a struct's field, unexported or not; the struct must be addressable.
func field(v reflect.Value, i int) reflect.Value {
	f := v.Field(i)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// digest stands for everything that matters of a value: two values with the same digest behave alike.
type digest [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func digestBytes(b []byte) digest {
	return digest{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
}

func digestOf[T any](v *T) digest {
	return digestBytes(appendValue(nil, reflect.ValueOf(v).Elem()))
}

func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return append(b, 0)
		}
		return appendValue(append(b, 1), v.Elem())
	case reflect.Struct:
		infos := fieldsOf(v.Type())
		for i := range infos {
			if !infos[i].incidental {
				b = appendValue(b, v.Field(i))
			}
		}
		return b
	case reflect.Slice, reflect.Array:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
		return b
	case reflect.Map:
		entries := make([]string, 0, v.Len())
		for iter := v.MapRange(); iter.Next(); {
			entries = append(entries, string(appendValue(appendValue(nil, iter.Key()), iter.Value())))
		}
		slices.Sort(entries)
		return append(binary.AppendUvarint(b, uint64(len(entries))), strings.Join(entries, "\x00")...)
	case reflect.String:
		return append(binary.AppendUvarint(b, uint64(v.Len())), v.String()...)
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Float64:
		return binary.AppendUvarint(b, math.Float64bits(v.Float()))
	default:
		if v.CanUint() {
			return binary.AppendUvarint(b, v.Uint())
		}
		return binary.AppendVarint(b, v.Int())
	}
}
