// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/assent-tx/assent"
)

// Of the keys, accounts have a number each, and transfers go between them; notes have a text, and every second one is deleted
// again.
const (
	opening = 100
	perLoad = 25 // keys that a transaction puts
)

func account(i int) string { return fmt.Sprintf("account/%05d", i) }
func note(i int) string    { return fmt.Sprintf("note/%05d", i) }

// load is what was done with the keys, and what must have come of it.
type load struct {
	client *client
	// accounts and notes are how many there are.
	accounts, notes int

	mu   sync.Mutex
	want map[string]string // a key's value, "" for none
	tally
}

// tally counts transfers.
type tally struct {
	committed, refused int
	retried            int // met keys that moved, and were tried again
}

// fill puts all keys, many in a transaction, and deletes every second note.
func (l *load) fill(ctx context.Context) error {
	l.want = make(map[string]string)
	var keys []string
	var ops []op
	for i := range l.accounts {
		keys, ops = append(keys, account(i)), append(ops, put(opening))
	}
	for i := range l.notes {
		keys, ops = append(keys, note(i)), append(ops, put("this is "+note(i)))
	}
	for i := 0; i < l.notes; i += 2 {
		keys, ops = append(keys, note(i)), append(ops, remove())
	}
	for begin := 0; begin < len(keys); begin += perLoad {
		end := min(begin+perLoad, len(keys))
		if _, err := l.client.do(ctx, keys[begin:end], ops[begin:end]); err != nil {
			return fmt.Errorf("put %s and others: %w", keys[begin], err)
		}
	}
	for i, key := range keys {
		l.want[key] = string(ops[i].Put)
	}
	return nil
}

// transfer moves money at random until ctx ends, so many at once. Two that want one account at the same time are in each other's
// way; one of them is refused, and that is all right.
func (l *load) transfer(ctx context.Context, atOnce int) error {
	errs := make([]error, atOnce)
	var running sync.WaitGroup
	for i := range atOnce {
		running.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i))) //nolint:gosec // a small number
			for errs[i] == nil && ctx.Err() == nil {
				errs[i] = l.one(context.WithoutCancel(ctx), random) // each is seen through
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// one is one transfer.
func (l *load) one(ctx context.Context, random *rand.Rand) error {
	i, n := random.IntN(l.accounts), 1+random.Int64N(opening)
	from, to := account(i), account((i+1+random.IntN(l.accounts-1))%l.accounts)
	moves, err := l.client.do(ctx, []string{from, to}, []op{add(-n, 0), add(n, 0)})
	l.mu.Lock()
	defer l.mu.Unlock()
	if moves > 0 {
		l.retried++
	}
	switch {
	case err == nil:
		l.committed++
		l.add(from, -n)
		l.add(to, n)
	case errors.Is(err, assent.ErrAborted):
		l.refused++
	default:
		return fmt.Errorf("from %s to %s: %w", from, to, err)
	}
	return nil
}

// add works out what the number at a key must be.
func (l *load) add(key string, n int64) {
	var number int64
	if err := json.Unmarshal([]byte(l.want[key]), &number); err != nil {
		panic(err) // fill has put a number there
	}
	l.want[key] = fmt.Sprint(number + n)
}

// check asks for every key, and gives the sum of the accounts.
func (l *load) check(ctx context.Context) (total int64, err error) {
	for key, want := range l.want {
		value, err := l.client.get(ctx, key)
		if err != nil {
			return 0, err
		}
		if string(value) != want {
			return 0, fmt.Errorf("%s is %q, and must be %q", key, value, want)
		}
		var number int64
		if json.Unmarshal(value, &number) == nil {
			total += number
		}
	}
	if want := int64(l.accounts * opening); total != want {
		return total, fmt.Errorf("the accounts have %d, and had %d", total, want)
	}
	return total, nil
}
