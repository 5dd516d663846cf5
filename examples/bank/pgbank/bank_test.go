// SPDX-License-Identifier: Apache-2.0

package pgbank

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/internal/databases" //nolint:depguard // real servers for the tests
)

// asBank has the test binary be bank-b, with the NATS server and the database that follow, until it is killed.
const asBank = "ASSENT_TEST_BANK"

func TestMain(m *testing.M) {
	if url, dsn, child := strings.Cut(os.Getenv(asBank), " "); child {
		nc, err := nats.Connect(url, nats.MaxReconnects(-1))
		if err == nil {
			err = Run(context.Background(), nc, Config{Name: "bank-b", DSN: dsn}, nil)
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(databases.Main(m), goleak.IgnoreCurrent())
}

const patience = 2 * time.Minute

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !ok() {
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// world is NATS with a coordinator, and a client.
type world struct {
	t      testing.TB
	url    string
	nc     *nats.Conn
	client *assent.Client
	ctx    context.Context // of what runs
	run    sync.WaitGroup
}

func newWorld(t testing.TB) *world {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, listener.Close())
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), Listen: listener.Addr().String()})
	must(t, err)
	ctx, stop := context.WithCancel(context.Background())
	w := &world{t: t, url: server.URL(), ctx: ctx}
	w.nc, err = server.Connect()
	must(t, err)
	lead, err := coordinator.New(w.nc, coordinator.Config{})
	must(t, err)
	w.run.Go(func() {
		if err := lead.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-lead.Ready()
	w.client, err = assent.New(w.nc, assent.Config{Patience: patience})
	must(t, err)
	t.Cleanup(func() {
		w.client.Close()
		stop()
		w.run.Wait()
		w.nc.Close()
		must(t, server.Close())
	})
	return w
}

// open opens a bank with accounts of 1000 cents.
func (w *world) open(name, dsn string, accounts ...string) *Bank {
	b, err := Open(w.t.Context(), Config{Name: name, DSN: dsn})
	must(w.t, err)
	w.t.Cleanup(b.Close)
	must(w.t, b.OpenAccounts(w.t.Context(), 1000, accounts...))
	return b
}

// start lets a bank take part in this process.
func (w *world) start(b *Bank) {
	w.run.Go(func() {
		if err := b.Run(w.ctx, w.nc); err != nil {
			w.t.Error(err)
		}
	})
}

// process starts bank-b in a process of its own; kill ends it with SIGKILL.
func (w *world) process(dsn string) (kill func()) {
	exe, err := os.Executable()
	must(w.t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), asBank+"="+w.url+" "+dsn)
	cmd.Stderr = os.Stderr
	must(w.t, cmd.Start())
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// transfer moves cents from an account of bank-a to one of bank-b.
func (w *world) transfer(from, to string, cents int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return w.client.Do(ctx, func(tx *assent.Tx) error {
		tx.Enlist("bank-a", bank.Entry{Account: from, Cents: -cents}, assent.Keys(Key(from)))
		tx.Enlist("bank-b", bank.Entry{Account: to, Cents: cents}, assent.Keys(Key(to)))
		return nil
	})
}

// known waits until both banks are.
func (w *world) known() {
	eventually(w.t, "both banks", func() bool { return !errors.Is(w.transfer("0", "0", 0), assent.ErrUnknownParticipant) })
}

func TestRefusals(t *testing.T) {
	server := databases.SharedPostgres(t)
	w := newWorld(t)
	dsn := server.Database(t)
	a, b := w.open("bank-a", dsn, "0"), w.open("bank-b", dsn, "0") // one database, two banks
	must(t, b.OpenAccounts(t.Context(), bank.MaxCents, "full"))
	w.start(a)
	w.start(b)
	w.known()
	for _, test := range []struct {
		from, to string
		cents    int64
		want     string
	}{
		{"0", "0", 1001, "bank_accounts_overdrawn"},
		{"0", "full", 1, "bank_accounts_full"},
		{"0", "nobody", 1, `no account "nobody"`},
		{"", "0", 0, `no account ""`},
		{"0", "0", bank.MaxCents + 1, "an entry may move at most"},
	} {
		var aborted *assent.AbortedError
		if err := w.transfer(test.from, test.to, test.cents); !errors.As(err, &aborted) || !strings.Contains(aborted.Reason, test.want) {
			t.Errorf("%d cents from %q to %q: %v, want %q", test.cents, test.from, test.to, err, test.want)
		}
	}
	must(t, w.transfer("0", "0", 300))
	eventually(t, "both balances", func() bool {
		atA, err := a.Accounts(t.Context())
		must(t, err)
		atB, err := b.Accounts(t.Context())
		must(t, err)
		return atA["0"] == 700 && atB["0"] == 1300 && atB["full"] == bank.MaxCents
	})
	must(t, a.OpenAccounts(t.Context(), 5, "0")) // it exists
	if err := a.OpenAccounts(t.Context(), -1, "debt"); err == nil {
		t.Error("an account in debt was opened")
	}
	if _, err := Open(t.Context(), Config{Name: "bank-a", DSN: "port=none"}); err == nil {
		t.Error("a DSN that is none was opened")
	}
}

const accounts = 6

// load transfers until it is told to stop, and gives what each account must have gained by then.
func (w *world) load(stop <-chan struct{}, committed *progress) {
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				from, to, cents := rand.IntN(accounts), rand.IntN(accounts), rand.Int64N(100)+1
				switch err := w.transfer(fmt.Sprint(from), fmt.Sprint(to), cents); {
				case err == nil:
					committed.note(from, to, cents)
				case !errors.Is(err, assent.ErrAborted): // overdrawn, mostly
					w.t.Error(err)
				}
			}
		})
	}
	clients.Wait()
}

// progress is what clients were told.
type progress struct {
	mu        sync.Mutex
	transfers int
	gone, got [accounts]int64
}

func (p *progress) note(from, to int, cents int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transfers++
	p.gone[from] += cents
	p.got[to] += cents
}

func (p *progress) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.transfers
}

// Transfers between two banks, each with a database server of its own, while one server and the other bank's process are killed
// with kill -9: afterwards each account has what its clients were told, to the cent, and nothing is held.
func TestMoneyIsConstant(t *testing.T) {
	if testing.Short() {
		t.Skip("it kills processes, in which the race detector would see nothing: -short was given")
	}
	killed, other := databases.Postgres(t), databases.SharedPostgres(t)
	w := newWorld(t)
	var names []string
	for i := range accounts {
		names = append(names, fmt.Sprint(i))
	}
	dsnB := other.Database(t)
	a, b := w.open("bank-a", killed.Database(t), names...), w.open("bank-b", dsnB, names...)
	w.start(a)
	kill := w.process(dsnB)
	w.known()

	committed := &progress{}
	more := func(n int) {
		from := committed.count()
		eventually(t, "more transfers", func() bool { return committed.count() >= from+n })
	}
	stop, loaded := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(loaded)
		w.load(stop, committed)
	}()
	for range 2 {
		more(20)
		must(t, killed.Kill())
		must(t, killed.Start())
		more(20)
		kill()
		kill = w.process(dsnB)
	}
	more(20)
	close(stop)
	<-loaded
	for name, bank := range map[string]*Bank{"bank-a": a, "bank-b": b} {
		eventually(t, "nothing is held at "+name, func() bool {
			n, err := bank.Prepared(t.Context())
			return err == nil && n == 0
		})
	}
	kill()
	atA, err := a.Accounts(t.Context())
	must(t, err)
	atB, err := b.Accounts(t.Context())
	must(t, err)
	for i, name := range names {
		if atA[name] != 1000-committed.gone[i] || atB[name] != 1000+committed.got[i] {
			t.Errorf("account %s has %d and %d; want %d and %d", name, atA[name], atB[name], 1000-committed.gone[i], 1000+committed.got[i])
		}
	}
	t.Logf("%d transfers", committed.count())
}
