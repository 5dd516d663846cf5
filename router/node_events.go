// SPDX-License-Identifier: Apache-2.0

package router

import "sync"

// events are what happened to a node, for the goroutine of Run, in the order in which it happened. Whoever puts one in does not
// wait. There are few: one for a session that comes or goes, for a hook or a write that ended, and for a gate whose last one has
// left after it was shut.
type events struct {
	mu    sync.Mutex
	queue []func(*nodeRun)
	// wake has one when the queue is not empty.
	wake chan struct{}
}

func (e *events) init() { e.wake = make(chan struct{}, 1) }

func (e *events) put(event func(*nodeRun)) {
	e.mu.Lock()
	e.queue = append(e.queue, event)
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *events) take() []func(*nodeRun) {
	e.mu.Lock()
	defer e.mu.Unlock()
	taken := e.queue
	e.queue = nil
	return taken
}
