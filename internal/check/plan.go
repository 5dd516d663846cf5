// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/assent-tx/assent/internal/elle"
)

// planner thinks of what transactions do.
type planner interface {
	// start describes the history.
	start() *elle.Event
	// next is the operations of one transaction.
	next(r *rand.Rand) []elle.Operation
	// place is the number of the store that has a key.
	place(key string) int
	// last is the operations of the transactions that read everything in the end.
	last() [][]elle.Operation
}

func newPlanner(cfg *Config) planner {
	if cfg.Workload == Bank {
		return &bankPlanner{cfg: cfg}
	}
	p := &appendPlanner{cfg: cfg, slots: make([]slot, cfg.Keys)}
	for i := range p.slots {
		p.slots[i].key = p.fresh()
	}
	return p
}

// appendPlanner has transactions append to lists and read them.
type appendPlanner struct {
	cfg *Config

	mu    sync.Mutex
	keys  int // so many lists there were
	slots []slot
}

// slot is a list in use.
type slot struct {
	key     int
	appends int64
}

func (p *appendPlanner) start() *elle.Event { return &elle.Event{Type: elle.Start, Workload: Append} }

// fresh is a list that nobody has used. The store that has it is another one than the list's before.
func (p *appendPlanner) fresh() int {
	p.keys++
	return p.keys
}

func (cfg *Config) listName(key int) string { return fmt.Sprint("list-", key, cfg.own) }

func (p *appendPlanner) place(key string) (at int) {
	if _, err := fmt.Sscanf(key, "list-%d", &at); err != nil {
		panic("check: a key that is no list's: " + key)
	}
	return at % p.cfg.Participants
}

// maxOperations is the most that a transaction has.
const maxOperations = 4

func (p *appendPlanner) next(r *rand.Rand) []elle.Operation {
	p.mu.Lock()
	defer p.mu.Unlock()
	ops := make([]elle.Operation, 1+r.IntN(maxOperations))
	for i := range ops {
		s := &p.slots[r.IntN(len(p.slots))]
		if r.IntN(2) == 0 {
			ops[i] = elle.Operation{Op: elle.Read, Key: p.cfg.listName(s.key)}
			continue
		}
		s.appends++
		value := s.appends
		ops[i] = elle.Operation{Op: elle.Append, Key: p.cfg.listName(s.key), Value: &value}
		if s.appends >= int64(p.cfg.Appends) {
			*s = slot{key: p.fresh()}
		}
	}
	return ops
}

// readAtOnce is how many lists a transaction reads in the end.
const readAtOnce = 16

func (p *appendPlanner) last() (all [][]elle.Operation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := 1; key <= p.keys; key++ {
		if (key-1)%readAtOnce == 0 {
			all = append(all, nil)
		}
		all[len(all)-1] = append(all[len(all)-1], elle.Operation{Op: elle.Read, Key: p.cfg.listName(key)})
	}
	return all
}

// bankPlanner moves money between accounts, and reads all of them.
type bankPlanner struct{ cfg *Config }

// opening is the balance of an account in the beginning.
const opening = 100

func (p *bankPlanner) start() *elle.Event {
	return &elle.Event{Type: elle.Start, Workload: Bank, Accounts: p.cfg.Keys, Total: int64(opening * p.cfg.Keys)}
}

func (cfg *Config) accountName(i int) string { return fmt.Sprint("account-", i, cfg.own) }

func (p *bankPlanner) place(key string) (at int) {
	if _, err := fmt.Sscanf(key, "account-%d", &at); err != nil {
		panic("check: a key that is no account's: " + key)
	}
	return at % p.cfg.Participants
}

func (p *bankPlanner) next(r *rand.Rand) []elle.Operation {
	if r.IntN(2) == 0 {
		return p.statement()
	}
	from := r.IntN(p.cfg.Keys)
	to := (from + 1 + r.IntN(p.cfg.Keys-1)) % p.cfg.Keys
	amount := 1 + r.Int64N(opening/2)
	taken := -amount
	return []elle.Operation{
		{Op: elle.Add, Key: p.cfg.accountName(from), Value: &taken},
		{Op: elle.Add, Key: p.cfg.accountName(to), Value: &amount},
	}
}

// statement reads all accounts.
func (p *bankPlanner) statement() []elle.Operation {
	ops := make([]elle.Operation, p.cfg.Keys)
	for i := range ops {
		ops[i] = elle.Operation{Op: elle.Balance, Key: p.cfg.accountName(i)}
	}
	return ops
}

func (p *bankPlanner) last() [][]elle.Operation { return [][]elle.Operation{p.statement()} }
