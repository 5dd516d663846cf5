// SPDX-License-Identifier: Apache-2.0

package elle

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// History is transactions as clients observed them. It is made by a Builder, or by Decode.
type History struct {
	// Workload is "append" or "bank".
	Workload string

	accounts int
	total    int64
	txs      []transaction
	keys     []string
	writes   map[version]write
}

// transaction is one that was invoked. Events are numbered from 0.
type transaction struct {
	name    string
	ops     []operation
	invoked int32
	ended   int32 // never, of one that is not known to have ended
	process int32
	outcome outcome
}

type outcome uint8

const (
	unknown outcome = iota
	committed
	failed
)

const never = math.MaxInt32

// operation is an Operation, smaller.
type operation struct {
	list  []int64 // of a read
	value int64
	key   int32
	kind  opKind
	known bool // a read whose result is known
}

type opKind uint8

const (
	opAppend opKind = iota
	opRead
	opAdd
	opBalance
)

var kinds = map[Func]opKind{Append: opAppend, Read: opRead, Add: opAdd, Balance: opBalance}

// version is a list with this value as its last element.
type version struct {
	value int64
	key   int32
}

// write is who installed a version.
type write struct {
	tx int32
	op int16 // which of its operations
	// last: the transaction appends nothing more to the list.
	last bool
}

// Builder makes a history of events, in their order.
type Builder struct {
	h       History
	keys    map[string]int32
	open    map[int32]int32 // of a process, its transaction that has not ended
	longest [][]int64       // of each key: reads that are prefixes of it share its memory
	events  int32
}

// NewBuilder gives a builder without events.
func NewBuilder() *Builder {
	return &Builder{
		h:    History{Workload: "append", writes: make(map[version]write)},
		keys: make(map[string]int32), open: make(map[int32]int32),
	}
}

// Add adds an event. After an error the builder is of no use any more.
func (b *Builder) Add(e *Event) error {
	if len(b.h.txs) >= MaxTransactions {
		return fmt.Errorf("more than %d transactions", MaxTransactions)
	}
	defer func() { b.events++ }()
	switch e.Type {
	case Start:
		return b.start(e)
	case Invoke:
		return b.invoke(e)
	case OK, Fail, Info:
		return b.end(e)
	default:
		return fmt.Errorf("type %.20q: want start, invoke, ok, fail or info", e.Type)
	}
}

func (b *Builder) start(e *Event) error {
	switch {
	case b.events > 0:
		return errors.New("start has to be the first event")
	case e.Workload != "" && e.Workload != "append" && e.Workload != "bank":
		return fmt.Errorf("workload %.20q: want append or bank", e.Workload)
	case e.Workload == "bank" && e.Accounts < 1:
		return fmt.Errorf("accounts %d: a bank has at least 1", e.Accounts)
	}
	if e.Workload != "" {
		b.h.Workload = e.Workload
	}
	b.h.accounts, b.h.total = e.Accounts, e.Total
	return nil
}

func (b *Builder) invoke(e *Event) error {
	if _, busy := b.open[e.Process]; busy {
		return fmt.Errorf("process %d begins a transaction before the one before has ended", e.Process)
	}
	if len(e.Operations) > MaxOperations {
		return fmt.Errorf("%d operations: at most %d", len(e.Operations), MaxOperations)
	}
	at := int32(len(b.h.txs))
	tx := transaction{name: e.Tx, invoked: b.events, ended: never, process: e.Process, ops: make([]operation, len(e.Operations))}
	for i := range e.Operations {
		if err := b.operation(&tx.ops[i], &e.Operations[i]); err != nil {
			return fmt.Errorf("ops[%d]: %w", i, err)
		}
	}
	b.h.txs = append(b.h.txs, tx)
	b.open[e.Process] = at
	return b.writes(at)
}

// operation reads an operation, without what a read found.
func (b *Builder) operation(into *operation, o *Operation) error {
	kind, ok := kinds[o.Op]
	switch {
	case !ok:
		return fmt.Errorf("op %.20q: want append, read, add or balance", o.Op)
	case o.Key == "":
		return errors.New("it has no key")
	case (kind == opAdd || kind == opBalance) != (b.h.Workload == "bank"):
		return fmt.Errorf("op %s in a history of the workload %s", o.Op, b.h.Workload)
	case (kind == opAppend || kind == opAdd) && o.Value == nil:
		return fmt.Errorf("%s without a value", o.Op)
	case kind != opRead && o.Values != nil:
		return fmt.Errorf("%s with values", o.Op)
	}
	into.kind, into.key = kind, b.key(o.Key)
	if o.Value != nil && kind != opBalance {
		into.value = *o.Value
	}
	return nil
}

func (b *Builder) key(name string) int32 {
	id, ok := b.keys[name]
	if !ok {
		id = int32(len(b.h.keys))
		b.keys[name] = id
		b.h.keys = append(b.h.keys, name)
		b.longest = append(b.longest, nil)
	}
	return id
}

// writes notes what a transaction appends.
func (b *Builder) writes(at int32) error {
	ops := b.h.txs[at].ops
	for i := range ops {
		if ops[i].kind != opAppend {
			continue
		}
		v := version{ops[i].value, ops[i].key}
		if _, twice := b.h.writes[v]; twice {
			return fmt.Errorf("ops[%d]: %d is appended to %.80q a second time: a version could not be told from the other", i, v.value, b.h.keys[v.key])
		}
		last := !slices.ContainsFunc(ops[i+1:], func(o operation) bool { return o.kind == opAppend && o.key == v.key })
		b.h.writes[v] = write{tx: at, op: int16(i), last: last}
	}
	return nil
}

// end ends the process's transaction.
func (b *Builder) end(e *Event) error {
	at, ok := b.open[e.Process]
	if !ok {
		return fmt.Errorf("process %d has begun nothing that could end", e.Process)
	}
	delete(b.open, e.Process)
	tx := &b.h.txs[at]
	if e.Tx != "" && tx.name != "" && e.Tx != tx.name {
		return fmt.Errorf("tx %.80q: process %d has begun %.80q", e.Tx, e.Process, tx.name)
	}
	switch e.Type { //nolint:exhaustive // Add has looked
	case OK:
		tx.outcome, tx.ended = committed, b.events
		return b.results(tx, e.Operations)
	case Fail:
		tx.outcome, tx.ended = failed, b.events
	}
	return nil
}

// results takes what a committed transaction read.
func (b *Builder) results(tx *transaction, ops []Operation) error {
	if len(ops) == 0 {
		return nil
	}
	if len(ops) != len(tx.ops) {
		return fmt.Errorf("%d operations; it began with %d", len(ops), len(tx.ops))
	}
	for i := range ops {
		o, into := &ops[i], &tx.ops[i]
		if kind, ok := kinds[o.Op]; !ok || kind != into.kind || o.Key != b.h.keys[into.key] {
			return fmt.Errorf("ops[%d]: %.20s of %.80q; it began as another one", i, o.Op, o.Key)
		}
		switch into.kind {
		case opAppend, opAdd:
			if o.Value == nil || *o.Value != into.value {
				return fmt.Errorf("ops[%d]: the value is not that with which it began", i)
			}
		case opRead:
			into.known = o.Values != nil
			into.list = b.share(into.key, o.Values)
		case opBalance:
			if into.known = o.Value != nil; into.known {
				into.value = *o.Value
			}
		}
	}
	return nil
}

// share gives a list that may stand in for this one.
func (b *Builder) share(key int32, list []int64) []int64 {
	longest := b.longest[key]
	n := min(len(longest), len(list))
	switch {
	case !slices.Equal(longest[:n], list[:n]):
		return list
	case len(list) <= len(longest):
		return longest[:len(list):len(list)]
	default:
		b.longest[key] = list
		return list
	}
}

// History gives what was built. Transactions that have not ended may have happened.
func (b *Builder) History() (*History, error) {
	if len(b.h.txs) == 0 {
		return nil, errors.New("the history has no transaction")
	}
	return &b.h, nil
}
