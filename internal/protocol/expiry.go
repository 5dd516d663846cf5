// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"bytes"

	"github.com/assent-tx/assent/messages"
)

// expiry is a transaction and the log time, in Unix milliseconds, that ends it.
type expiry struct {
	at int64
	id messages.ID
}

// earlier orders equal times by id, so that whoever does the same does it in the same order.
func (e *expiry) earlier(o *expiry) bool {
	return e.at < o.at || (e.at == o.at && bytes.Compare(e.id[:], o.id[:]) < 0)
}

// expiryHeap is a binary heap of expiries, the earliest first. Entries are removed lazily: one may outlive its
// transaction's being undecided. (container/heap would allocate for every push.)
type expiryHeap []expiry

func (h *expiryHeap) push(e expiry) {
	*h = append(*h, e)
	heap := *h
	for i := len(heap) - 1; i > 0; {
		parent := (i - 1) / 2
		if !heap[i].earlier(&heap[parent]) {
			return
		}
		heap[parent], heap[i] = heap[i], heap[parent]
		i = parent
	}
}

func (h *expiryHeap) pop() expiry {
	heap := *h
	top, last := heap[0], len(heap)-1
	heap[0] = heap[last]
	heap = heap[:last]
	*h = heap
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if heap[child].earlier(&heap[least]) {
				least = child
			}
		}
		if least == i {
			return top
		}
		heap[i], heap[least] = heap[least], heap[i]
		i = least
	}
}

// before calls visit for every entry that is earlier than limit, until visit is false. Only the part of the heap that
// is earlier is walked.
func (h expiryHeap) before(limit int64, visit func(messages.ID) bool) {
	var walk func(i int) bool
	walk = func(i int) bool {
		if i >= len(h) || h[i].at >= limit {
			return true
		}
		return visit(h[i].id) && walk(2*i+1) && walk(2*i+2)
	}
	walk(0)
}
