// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"
)

// group does work for many in one transaction, and thereby with one sync, for a database that has one writer at a time: what comes
// while a transaction is under way gathers for the next one. Each has a savepoint of its own, so that a failure stays alone.
type group struct {
	db *sql.DB
	// begin takes the right to write before anything is read, so that what is read is not old when it comes to writing.
	begin string
	// busy tells whether an error says that another process is in the way.
	busy func(error) bool

	mu      sync.Mutex
	waiting []*job
	running bool
}

// job is one's work.
type job struct {
	ctx  context.Context //nolint:containedctx // the work of many is done in one goroutine, each under its own context
	do   work
	err  error
	done chan struct{}
}

// maxJobs is how many share a transaction, which bounds for how long one waits for the others.
const maxJobs = 256

// do does work in the next transaction. It returns when the work is over, or when ctx ended before it began.
func (g *group) do(ctx context.Context, do work) error {
	j := &job{ctx: ctx, do: do, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, j)
	if !g.running {
		g.running = true
		go g.run()
	}
	g.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
		if g.withdraw(j) {
			return ctx.Err()
		}
		<-j.done // it has begun, and ends soon: its statements end with ctx
	}
	return j.err
}

// withdraw takes back work that has not begun.
func (g *group) withdraw(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.waiting {
		if g.waiting[i] == j {
			g.waiting = append(g.waiting[:i], g.waiting[i+1:]...)
			return true
		}
	}
	return false
}

// run works until nothing waits.
func (g *group) run() {
	for {
		g.mu.Lock()
		jobs := g.waiting[:min(maxJobs, len(g.waiting))]
		g.waiting = g.waiting[len(jobs):]
		if len(jobs) == 0 {
			g.waiting, g.running = nil, false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		g.together(jobs)
		for _, j := range jobs {
			close(j.done)
		}
	}
}

// together does jobs in one transaction. If that fails as a whole, nothing of any of them was kept, and each gets one of its
// own, so that it is only its own fault that it fails by. But when it is another process's, that would be in the way again.
func (g *group) together(jobs []*job) {
	if len(jobs) > 1 {
		err := g.shared(jobs)
		if err == nil {
			return
		}
		if g.busy(err) {
			for _, j := range jobs {
				j.err = err
			}
			return
		}
	}
	for _, j := range jobs {
		j.err = transact(j.ctx, g.db, nil, func(ctx context.Context, tx *sql.Tx) (bool, error) {
			if _, err := tx.ExecContext(ctx, g.begin); err != nil {
				return false, err
			}
			return j.do(ctx, tx)
		})
	}
}

// shared does jobs in one transaction, each in a savepoint. Its error is of the transaction.
func (g *group) shared(jobs []*job) error {
	ctx, cancel := latest(jobs)
	defer cancel()
	return transact(ctx, g.db, nil, func(ctx context.Context, tx *sql.Tx) (bool, error) {
		if _, err := tx.ExecContext(ctx, g.begin); err != nil {
			return false, err
		}
		anything := false
		for _, j := range jobs {
			keep, err := g.apart(ctx, tx, j)
			if err != nil {
				return false, err
			}
			anything = anything || keep
		}
		return anything, nil
	})
}

// latest is a context that ends when the last of the jobs' does by its deadline: none of them may cut the others short.
func latest(jobs []*job) (context.Context, context.CancelFunc) {
	var last time.Time
	for _, j := range jobs {
		deadline, ok := j.ctx.Deadline()
		if !ok {
			return context.WithCancel(context.Background())
		}
		if deadline.After(last) {
			last = deadline
		}
	}
	return context.WithDeadline(context.Background(), last)
}

// apart does a job in a savepoint; err is of the transaction, which cannot go on then.
func (g *group) apart(ctx context.Context, tx *sql.Tx, j *job) (keep bool, err error) {
	if j.err = j.ctx.Err(); j.err != nil {
		return false, nil //nolint:nilerr // it is the job's, and not the transaction's
	}
	if _, err := tx.ExecContext(ctx, `SAVEPOINT assent`); err != nil {
		return false, err
	}
	keep, j.err = contained(j.ctx, tx, j.do)
	if j.err != nil || !keep {
		keep = false
		_, err = tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT assent`)
	}
	_, err2 := tx.ExecContext(ctx, `RELEASE SAVEPOINT assent`)
	return keep, errors.Join(err, err2)
}
