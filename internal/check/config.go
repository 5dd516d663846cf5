// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/elle"
	"github.com/assent-tx/assent/messages"
)

// Config says what to check. Exe is required.
type Config struct {
	// Exe is the assent program, of which the processes are made.
	Exe string
	// Dir is where data and the processes' logs go; it must be empty or not exist, and is kept. Default: a temporary
	// directory, which is kept only when something went wrong.
	Dir string
	// Prefix is the cluster's subject prefix; default "assent". LogLevel is what the processes log; default "warn".
	Prefix, LogLevel string
	// Workload is Append, Bank or KV; default Append.
	Workload string
	// NoKeys leaves out the keys of operations, and with them isolation.
	NoKeys bool
	// Transactions is the least number of them, 1 to MaxTransactions; default 2000, unless there is a Duration. Duration is how long
	// the load runs at least. In both cases it goes on until each fault was injected once.
	Transactions int
	Duration     time.Duration
	// Clients is how many there are, each with one transaction at a time, 1 to MaxClients; default 16.
	Clients int
	// Participants is how many stores, or buckets, share the keys, 1 to MaxParticipants; default 3.
	Participants int
	// Coordinators is how many are started: 0 or 1 is assent serve with its own NATS server, which fails with it. More of them share a
	// server, which does not fail. With Connect none is started.
	Coordinators int
	// Keys is how many are in use at a time, 1 to MaxKeys; default 8. Of the workload Append each gives way to another one after Appends
	// appends (default 32), so that lists stay short. The workload Bank has so many accounts.
	Keys, Appends int
	// Faults are what goes wrong, of Faults(); nil is all that can. Every is the time from one to the next; default 500 ms.
	Faults []string
	Every  time.Duration
	// Seed decides what the transactions do and what goes wrong.
	Seed uint64
	// Name is what the participants' names begin with; default "check".
	Name string
	// Connect, when not nil, connects to a running cluster, and Flags are what a process of the program needs for that.
	Connect func(...nats.Option) (*nats.Conn, error)
	Flags   []string
	// History, when not nil, gets the history as it happens, as JSON lines.
	History io.Writer
	// Progress, when not nil, hears what is done of a step, 0 to 1, several times a second, and Event what happened. Both are called by one
	// goroutine at a time.
	Progress func(step string, done float64)
	Event    func(text string)

	// own ends the names of keys. In a running cluster transactions may be open of a check before, which was interrupted: what they still do to
	// their keys must not be seen in those of this one.
	own string

	brief bool // for tests: no fault lasts longer than a second
}

// The workloads.
const (
	Append = "append" // lists, at participants of our own
	Bank   = "bank"   // accounts, at participants of our own
	KV     = "kv"     // lists, as values of key-value buckets
)

// The bounds of a Config.
const (
	MaxTransactions = 100_000_000
	MaxClients      = 1024
	MaxParticipants = 64
	MaxCoordinators = 5
	MaxKeys         = 100_000
)

// The faults.
const (
	Kill  = "kill"  // kill -9 of a store or a coordinator, and a restart
	Pause = "pause" // SIGSTOP of a store or a coordinator, and later SIGCONT
	Cut   = "cut"   // the connections of a store, a coordinator or the clients break
	Lose  = "lose"  // what the server says to one of these is lost for a while, acknowledgements above all; then its connections break
)

// Faults are all that there are.
func Faults() []string { return []string{Kill, Pause, Cut, Lose} }

func (cfg *Config) setDefaults() {
	cfg.Prefix = cmp.Or(cfg.Prefix, messages.DefaultPrefix)
	cfg.LogLevel = cmp.Or(cfg.LogLevel, "warn")
	cfg.Workload = cmp.Or(cfg.Workload, Append)
	if cfg.Transactions == 0 && cfg.Duration == 0 {
		cfg.Transactions = 2000
	}
	cfg.Clients = cmp.Or(cfg.Clients, 16)
	cfg.Participants = cmp.Or(cfg.Participants, 3)
	cfg.Keys = cmp.Or(cfg.Keys, 8)
	cfg.Appends = cmp.Or(cfg.Appends, 32)
	cfg.Every = cmp.Or(cfg.Every, 500*time.Millisecond)
	cfg.Name = cmp.Or(cfg.Name, "check")
	if cfg.Faults == nil {
		cfg.Faults = cfg.possible()
	}
	if cfg.Connect != nil && cfg.own == "" {
		cfg.own = "-" + rand.Text()[:8]
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, float64) {}
	}
	if cfg.Event == nil {
		cfg.Event = func(string) {}
	}
}

// Check says what is wrong with a Config.
func (cfg *Config) Check() error {
	c := *cfg
	c.setDefaults()
	for _, bound := range []struct {
		name       string
		value, max int
	}{
		{"clients", c.Clients, MaxClients}, {"participants", c.Participants, MaxParticipants}, {"keys", c.Keys, MaxKeys},
		{"appends", c.Appends, 10_000}, {"coordinators", max(c.Coordinators, 1), MaxCoordinators}, {"transactions", max(c.Transactions, 1), MaxTransactions},
	} {
		if bound.value < 1 || bound.value > bound.max {
			return fmt.Errorf("%s %d: want 1 to %d", bound.name, bound.value, bound.max)
		}
	}
	switch {
	case c.Workload != Append && c.Workload != Bank && c.Workload != KV:
		return fmt.Errorf("workload %q: want %s, %s or %s", c.Workload, Append, Bank, KV)
	case c.Workload == KV && c.NoKeys:
		return errors.New("no-keys: transactions over buckets always name their keys")
	case c.Workload == Bank && (c.Keys < 2 || c.Keys > elle.MaxOperations):
		return fmt.Errorf("keys %d: a bank has 2 to %d accounts", c.Keys, elle.MaxOperations)
	case c.Duration < 0 || c.Every < 10*time.Millisecond:
		return fmt.Errorf("every %v, duration %v: want at least 10ms, and nothing negative", c.Every, c.Duration)
	case !messages.ValidName(c.Name + "-64"):
		return fmt.Errorf("name %q: want at most %d of [A-Za-z0-9_-]", c.Name, messages.MaxName-len("-64"))
	}
	for _, fault := range c.Faults {
		if !slices.Contains(c.possible(), fault) {
			return fmt.Errorf("faults %q: want some of %s", fault, strings.Join(c.possible(), ", "))
		}
	}
	return nil
}

// participant is the name of the i-th store.
func (cfg *Config) participant(i int) string { return fmt.Sprintf("%s-%d", cfg.Name, i+1) }
