// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

// TestExploreCopies holds copies and digests against plain reflection, in worlds of every scope: a copy has all that the original has
// and shares nothing with it, and the digest tells every field that is not said to be incidental.
func TestExploreCopies(t *testing.T) {
	for i := range scopes {
		t.Run(strings.ReplaceAll(scopes[i].name, " ", "-"), func(t *testing.T) {
			worlds := []*universe{newUniverse(&scopes[i])}
			for depth := 0; len(worlds) > 0 && depth < 12; depth++ {
				var next []*universe
				for _, w := range worlds {
					testCopies(t, w, depth%4 == 3)
					w.successors(func(_ step, n *universe) { next = append(next, n) })
				}
				worlds = nil
				for at := 0; at < len(next); at += 1 + len(next)/8 {
					worlds = append(worlds, next[at])
				}
			}
		})
	}
}

func testCopies(t *testing.T, w *universe, digests bool) {
	t.Helper()
	for _, l := range w.leaders {
		if l != nil {
			testCopy(t, l.fold, digests)
			testCopy(t, l.delivery, digests)
		}
	}
	for _, k := range w.workers {
		if k != nil {
			testCopy(t, k.branches, digests)
		}
	}
}

func testCopy[T any](t *testing.T, v *T, digests bool) {
	t.Helper()
	c := deepCopy(v)
	twins{t, map[unsafe.Pointer]unsafe.Pointer{}}.compare(reflect.TypeFor[T]().Name(), reflect.ValueOf(v), reflect.ValueOf(c))
	if digestOf(v) != digestOf(c) {
		t.Errorf("a copy of %T has another digest", v)
	}
	if digests {
		was := digestOf(c)
		changes{t, func() bool { return digestOf(c) != was }}.try(reflect.TypeFor[T]().Name(), reflect.ValueOf(c).Elem(), func() {})
		if digestOf(c) != was {
			t.Fatal("the changes were not taken back")
		}
	}
}

// twins are a value and its copy; the map has the copy of each pointer.
type twins struct {
	t   *testing.T
	met map[unsafe.Pointer]unsafe.Pointer
}

func (m twins) compare(path string, a, b reflect.Value) {
	m.t.Helper()
	switch a.Kind() {
	case reflect.Pointer:
		m.pointer(path, a, b)
	case reflect.Struct:
		for i := range a.NumField() {
			name := a.Type().Name() + "." + a.Type().Field(i).Name
			if !scratch[name] {
				m.compare(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
			} else if !b.Field(i).IsZero() {
				m.t.Errorf("%s is copied", path)
			}
		}
	case reflect.Slice:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			m.t.Fatalf("%s: %v and %v", path, a, b)
		}
		if b.Cap() > 0 && a.UnsafePointer() == b.UnsafePointer() {
			m.t.Errorf("%s is shared", path)
		}
		for i := range a.Len() {
			m.compare(path+"[]", a.Index(i), b.Index(i))
		}
	case reflect.Map:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			m.t.Fatalf("%s: %v and %v", path, a, b)
		}
		if !a.IsNil() && a.UnsafePointer() == b.UnsafePointer() {
			m.t.Errorf("%s is shared", path)
		}
		for iter := a.MapRange(); iter.Next(); {
			if held := b.MapIndex(iter.Key()); held.IsValid() {
				m.compare(path+"[]", iter.Value(), held)
			} else {
				m.t.Errorf("%s lacks %v", path, iter.Key())
			}
		}
	default:
		if !a.Equal(b) {
			m.t.Errorf("%s: %v and %v", path, a, b)
		}
	}
}

func (m twins) pointer(path string, a, b reflect.Value) {
	m.t.Helper()
	p, q := a.UnsafePointer(), b.UnsafePointer()
	if known, ok := m.met[p]; ok {
		if known != q {
			m.t.Errorf("%s: what is one thing is two in the copy", path)
		}
		return
	}
	m.met[p] = q
	switch {
	case (p == nil) != (q == nil):
		m.t.Errorf("%s: %v and %v", path, a, b)
	case p == q && p != nil:
		m.t.Errorf("%s is shared", path)
	case p != nil:
		m.compare(path, a.Elem(), b.Elem())
	}
}

// changes are made to each thing in a value, one by one, and taken back; seen tells whether the digest shows one.
type changes struct {
	t    *testing.T
	seen func() bool
}

// try changes what is in v, which is addressable; store brings a change to where it counts.
func (c changes) try(path string, v reflect.Value, store func()) {
	c.t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.try(path, v.Elem(), store)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Name() + "." + v.Type().Field(i).Name; !incidental[name] {
				f := v.Field(i)
				c.try(path+"."+v.Type().Field(i).Name, reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem(), store)
			}
		}
	case reflect.Slice:
		if v.Len() > 0 {
			c.change(path, v, v.Slice(0, v.Len()-1), store)
		}
		for i := range v.Len() {
			c.try(path+"[]", v.Index(i), store)
		}
	case reflect.Array:
		for i := range v.Len() {
			c.try(path+"[]", v.Index(i), store)
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			held := reflect.New(v.Type().Elem()).Elem()
			held.Set(v.MapIndex(key))
			c.try(path+"[]", held, func() { v.SetMapIndex(key, held); store() })
			v.SetMapIndex(key, reflect.Value{})
			c.see(path)
			v.SetMapIndex(key, held)
		}
	case reflect.Interface:
		if !v.IsNil() {
			c.change(path, v, reflect.Zero(v.Type()), store)
		}
	default:
		c.change(path, v, another(v), store)
	}
}

// another is a value that is not v.
func another(v reflect.Value) reflect.Value {
	other := reflect.New(v.Type()).Elem()
	switch {
	case v.CanInt():
		other.SetInt(v.Int() ^ 1)
	case v.CanUint():
		other.SetUint(v.Uint() ^ 1)
	case v.Kind() == reflect.Bool:
		other.SetBool(!v.Bool())
	default:
		other.SetString(v.String() + "x")
	}
	return other
}

func (c changes) change(path string, v, to reflect.Value, store func()) {
	c.t.Helper()
	was := reflect.New(v.Type()).Elem()
	was.Set(v)
	v.Set(to)
	store()
	c.see(path)
	v.Set(was)
	store()
}

func (c changes) see(path string) {
	c.t.Helper()
	if !c.seen() {
		c.t.Errorf("the digest does not tell %s", path)
	}
}
