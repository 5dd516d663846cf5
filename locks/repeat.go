// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"sync"
	"time"
)

// tempo is how often a request is repeated. It is asked for again after every without an answer; the longer there has been none, the rarer:
// after half of the time that it has taken so far, but after most at the latest. So a server that cannot keep up is not kept from
// ever doing so. After an answer that settles nothing it is asked for again after the pause.
type tempo struct{ every, most, pause time.Duration }

// maxAsked is how many times one request may wait for its answer at once.
const maxAsked = 32

// repeat makes a request until an answer settles it. It is made again when there is no answer, which may be lost; but what was asked
// before is still waited for, and whichever answer comes first counts: so a server that takes longer than a request's pace for
// each answer is slow, and not out of reach. The answers are looked at one after the other, by who calls. The error is the
// context's; nothing is under way any more when repeat returns.
func repeat[A any](ctx context.Context, t tempo, request func(context.Context) A, settles func(A) bool) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan A)
	ask := func() {
		attempt, cancel := context.WithTimeout(ctx, maxAsked*t.most) // else JetStream's client sets one, of 5 s
		defer cancel()
		answer := request(attempt)
		select {
		case answers <- answer:
		case <-ctx.Done():
		}
	}
	began := time.Now()
	next := time.NewTimer(0)
	defer next.Stop()
	for asked := 0; ; {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case answer := <-answers:
			if settles(answer) {
				return nil
			}
			asked--
			next.Reset(t.pause)
		case <-next.C:
			if asked < maxAsked {
				asked++
				asking.Go(ask)
			}
			next.Reset(min(max(t.every, time.Since(began)/2), t.most))
		}
	}
}
