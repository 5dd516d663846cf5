// SPDX-License-Identifier: Apache-2.0

package participant

import (
	"slices"
	"sync"
)

// workers are goroutines that make calls, so many at once. One that has ended a call is kept for the next: a new one's stack has to grow
// to what a handler needs, again for each call, which is work as much as a statement of a database is for its client.
type workers[T, R any] struct {
	call func(T) R
	// answer is where an item and what its call gave are brought, while another call may have the place. It must not keep the slices.
	answer func([]T, []R)
	places chan struct{}
	closed chan struct{}

	mu sync.Mutex // orders the first worker of a WaitGroup and close
	// idle are the workers that wait. The last one to come works first, so that those who are not needed are found at the front.
	idle []chan T
	// spare is how many have waited ever since the last tidy. Invariant: 0 <= spare <= len(idle) <= cap(places)
	spare   int
	running sync.WaitGroup
}

func newWorkers[T, R any](places int, call func(T) R, answer func([]T, []R)) *workers[T, R] {
	return &workers[T, R]{call: call, answer: answer, places: make(chan struct{}, places), closed: make(chan struct{})}
}

// give waits for a place and has the call made there.
func (w *workers[T, R]) give(item T) {
	select {
	case w.places <- struct{}{}:
	case <-w.closed:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isClosed() {
		return
	}
	last := len(w.idle) - 1
	if last < 0 {
		w.running.Go(func() { w.work(item) })
		return
	}
	w.idle[last] <- item // it has room for one, and is given no other
	w.idle = w.idle[:last]
	w.spare = min(w.spare, last)
}

// work makes calls until there is no more need. The place is free again before the answer is worked on, which may wait for one.
func (w *workers[T, R]) work(item T) {
	next, items, results := make(chan T, 1), make([]T, 1), make([]R, 1)
	for ok := true; ok; item, ok = <-next {
		items[0], results[0] = item, w.call(item)
		<-w.places
		w.answer(items, results)
		clear(items)
		clear(results)
		w.rest(next)
	}
}

// rest has a worker wait for the next item, or for the end.
func (w *workers[T, R]) rest(next chan T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isClosed() || len(w.idle) == cap(w.places) {
		close(next)
		return
	}
	w.idle = append(w.idle, next)
}

// tidy ends the workers that had nothing to do since the last tidy.
func (w *workers[T, R]) tidy() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.end(w.spare)
	w.spare = len(w.idle)
}

// end ends the first idle workers.
func (w *workers[T, R]) end(count int) {
	for _, next := range w.idle[:count] {
		close(next)
	}
	w.idle = slices.Delete(w.idle, 0, count)
}

func (w *workers[T, R]) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.closed)
	w.end(len(w.idle))
	w.spare = 0
}

func (w *workers[T, R]) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// wait until no worker is left; it comes after close.
func (w *workers[T, R]) wait() { w.running.Wait() }
