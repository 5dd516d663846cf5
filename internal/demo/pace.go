// SPDX-License-Identifier: Apache-2.0

package demo

import "sync"

// pace lets transfers begin, and counts those that have ended. Clients call next and end, whoever makes things happen meanwhile
// the rest.
type pace struct {
	mu    sync.Mutex
	may   *sync.Cond // more may begin, or none any more
	ended *sync.Cond // one more has ended, or none will

	begins, ends int
	limit        int
	last         bool // the limit is for good
}

func newPace() *pace {
	p := &pace{}
	p.may, p.ended = sync.NewCond(&p.mu), sync.NewCond(&p.mu)
	return p
}

// next is the number of a transfer that may begin now; false when there are no more.
func (p *pace) next() (i int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.begins >= p.limit {
		if p.last {
			return 0, false
		}
		p.may.Wait()
	}
	p.begins++
	return p.begins - 1, true
}

// end notes that a transfer has ended.
func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends++
	p.ended.Broadcast()
}

// allow lets so many transfers begin, in all.
func (p *pace) allow(limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
	p.may.Broadcast()
}

// finish lets so many begin and no more, or only those that have begun already.
func (p *pace) finish(limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit, p.last = max(limit, p.begins), true
	p.may.Broadcast()
	p.ended.Broadcast()
}

// until waits for so many to have ended; false when that will not be.
func (p *pace) until(count int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.ends < count {
		if p.last {
			return false
		}
		p.ended.Wait()
	}
	return true
}

// now is how many have begun and ended.
func (p *pace) now() (begun, ended int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.begins, p.ends
}
