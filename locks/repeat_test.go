// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowly answers after a while with how many were asked before.
func slowly(asked *atomic.Int64, took func(n int64) time.Duration) func(context.Context) int64 {
	return func(ctx context.Context) int64 {
		n := asked.Add(1)
		select {
		case <-ctx.Done():
			return -n
		case <-time.After(took(n)):
			return n
		}
	}
}

func always(int64) bool { return true }

func TestRepeatWaitsForLateAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		began, first := time.Now(), int64(0)
		err := repeat(t.Context(), tempo{every: time.Second, most: time.Second, pause: time.Second}, slowly(&asked, func(int64) time.Duration { return 3500 * time.Millisecond }), func(n int64) bool {
			first = n
			return true
		})
		if took := time.Since(began); err != nil || first != 1 || took != 3500*time.Millisecond || asked.Load() != 4 {
			t.Errorf("%v: answer %d of %d, after %s; want the first of 4, after 3.5 s", err, first, asked.Load(), took)
		}
	})
}

func TestRepeatWhenAnswersAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		began := time.Now()
		err := repeat(t.Context(), tempo{every: time.Second, most: time.Second, pause: time.Second}, slowly(&asked, func(n int64) time.Duration {
			if n < 3 {
				return time.Hour
			}
			return time.Millisecond
		}), always)
		if took := time.Since(began); err != nil || took != 2001*time.Millisecond {
			t.Errorf("%v, after %s", err, took)
		}
	})
}

// What settles nothing is asked again after the pause; what was asked before still counts.
func TestRepeatUntilAnAnswerSettlesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		began := time.Now()
		var answers []int64
		err := repeat(t.Context(), tempo{every: time.Second, most: time.Second, pause: 100 * time.Millisecond}, slowly(&asked, func(n int64) time.Duration {
			if n == 1 {
				return 1250 * time.Millisecond
			}
			return 0
		}), func(n int64) bool {
			answers = append(answers, n)
			return n == 1
		})
		if took := time.Since(began); err != nil || took != 1250*time.Millisecond || len(answers) != 4 {
			t.Errorf("%v: answers %v, after %s; want 2, 3, 4 and then 1", err, answers, took)
		}
	})
}

func TestRepeatHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked, waiting, most atomic.Int64
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		time.AfterFunc(100*time.Second, func() { cancel(cause) })
		err := repeat(ctx, tempo{every: time.Second, most: time.Second, pause: 10 * time.Millisecond}, func(ctx context.Context) int64 {
			most.Store(max(most.Load(), waiting.Add(1)))
			defer waiting.Add(-1)
			return slowly(&asked, func(n int64) time.Duration { return time.Hour })(ctx)
		}, func(int64) bool { return false })
		if !errors.Is(err, cause) || waiting.Load() != 0 {
			t.Errorf("%v, and %d are under way", err, waiting.Load())
		}
		if most.Load() > maxAsked || asked.Load() < 90 {
			t.Errorf("%d were asked, %d at once", asked.Load(), most.Load())
		}
	})
}

// Who is not answered asks the rarer the longer it takes.
func TestRepeatGivesASlowServerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		err := repeat(t.Context(), tempo{every: time.Second, most: 10 * time.Second}, slowly(&asked, func(int64) time.Duration { return time.Minute }), always)
		if err != nil || asked.Load() != 12 { // after 1, 2, 3, 4.5, 6.75, 10.125, 15.2, 22.8, 32.8, 42.8 and 52.8 s
			t.Errorf("%v, %d were asked", err, asked.Load())
		}
	})
}
