// SPDX-License-Identifier: Apache-2.0

package check

import (
	"io"
	"sync"
	"time"

	"github.com/assent-tx/assent/internal/elle"
)

// recorder puts events in the order in which they are recorded: a transaction's invoke is, before it is submitted, and its end, after it
// was learnt. So what is recorded as over before something else began, was.
type recorder struct {
	began time.Time

	mu      sync.Mutex
	builder *elle.Builder
	out     *elle.Encoder // nil: nowhere
	err     error         // the first
}

func newRecorder(out io.Writer, start *elle.Event) *recorder {
	r := &recorder{began: time.Now(), builder: elle.NewBuilder()}
	if out != nil {
		r.out = elle.NewEncoder(out)
	}
	r.record(start)
	return r
}

func (r *recorder) record(e *elle.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return
	}
	e.Time = time.Since(r.began).Microseconds()
	if r.err = r.builder.Add(e); r.err == nil && r.out != nil {
		r.err = r.out.Encode(e)
	}
}

// fail keeps an error that makes the history worthless.
func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// history is what was recorded.
func (r *recorder) history() (*elle.History, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	return r.builder.History()
}
