// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

var rounds = flag.Int("workload.rounds", 6, "faults of TestWorkload")

// Two banks in two databases, with everything that can happen to them, at random: killed, restarted, connections cut, the participant
// ended and begun anew, two instances of it.
func TestWorkload(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	servers := map[string]*databases.Server{"one": databases.Postgres(t), "two": databases.Postgres(t, "default_transaction_isolation=serializable")}
	w := newWorld(t)
	l := newLedger(t, newBank(t, servers["one"]), newBank(t, servers["two"]))
	stop := make(map[string]func())
	for name := range servers {
		stop[name] = w.join(name, l.store(name, nil), 0)
		w.join(name, l.store(name, nil), 0) // a second instance
	}
	ctx, cancel := context.WithCancel(t.Context())
	wait := l.load(ctx, w.client(), 6, 1<<30)
	if testing.Short() {
		*rounds = min(*rounds, 2)
	}
	for round := range *rounds {
		before := l.done()
		eventually(t, "transactions commit", func() bool { return l.done() >= before+10 })
		name := []string{"one", "two"}[random.IntN(2)]
		fault := random.IntN(4)
		t.Logf("round %d: fault %d at %s after %d transactions", round, fault, name, l.done())
		switch fault {
		case 0:
			must(t, servers[name].Kill())
			must(t, servers[name].Start())
		case 1:
			must(t, servers[name].Stop())
			must(t, servers[name].Start())
		case 2:
			l.banks[name].exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		case 3:
			stop[name]()
			stop[name] = w.join(name, l.store(name, nil), 0)
		}
	}
	before := l.done()
	eventually(t, "transactions commit", func() bool { return l.done() >= before+10 })
	cancel()
	wait()
	l.check()
}

// The environment variables that make the test binary a participant's process.
const (
	asParticipant = "ASSENT_TEST_POSTGRES" // its name
	ofDSN         = "ASSENT_TEST_POSTGRES_DSN"
	ofNATS        = "ASSENT_TEST_POSTGRES_NATS"
	diesAt        = "ASSENT_TEST_POSTGRES_DIES" // after which call of which kind
)

// mortal dies at the third call of a kind, by its own SIGKILL.
type mortal struct {
	*Store
	at    string
	calls atomic.Int64
}

func (m *mortal) pass(point string) {
	if m.at == point && m.calls.Add(1) == 3 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
}

func (m *mortal) Prepare(ctx context.Context, b *participant.Branch) (participant.Vote, error) {
	m.pass("before PREPARE")
	vote, err := m.Store.Prepare(ctx, b)
	m.pass("between PREPARE and the vote")
	return vote, err
}

func (m *mortal) Commit(ctx context.Context, tx messages.ID) error {
	m.pass("before COMMIT PREPARED")
	err := m.Store.Commit(ctx, tx)
	m.pass("between COMMIT PREPARED and the done")
	return err
}

// runParticipant is the process.
func runParticipant() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv(ofDSN)+"&pool_max_conns=8")
	if err != nil {
		return err
	}
	defer pool.Close()
	name := os.Getenv(asParticipant)
	s, err := Open(ctx, pool, Config{Name: name, LockTimeout: 100 * time.Millisecond, Log: testLog(), Do: noted})
	if err != nil {
		return err
	}
	nc, err := nats.Connect(os.Getenv(ofNATS))
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := participant.New(nc, participant.Config{Name: name, Handler: &mortal{Store: s, at: os.Getenv(diesAt)}, Log: testLog()})
	if err != nil {
		return err
	}
	go func() {
		<-p.Ready()
		fmt.Println("ready")
	}()
	return p.Run(ctx)
}

// startParticipant starts a process and waits until it takes part.
func startParticipant(t *testing.T, l *ledger, w *world, name, dies string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), asParticipant+"="+name, ofDSN+"="+l.banks[name].dsn, ofNATS+"="+w.server.URL(), diesAt+"="+dies)
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	must(t, err)
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // again, if the test has
	})
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		t.Fatalf("the participant said %q, %v", line, err)
	}
	return command
}

// kill -9 of the participant, before and after each durable step.
func TestParticipantIsKilled(t *testing.T) {
	for _, point := range []string{"before PREPARE", "between PREPARE and the vote", "before COMMIT PREPARED", "between COMMIT PREPARED and the done"} {
		t.Run(strings.ReplaceAll(point, " ", "_"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := newLedger(t, newBank(t, nil), newBank(t, nil))
			w.join("two", l.store("two", nil), 0)
			doomed := startParticipant(t, l, w, "one", point)
			wait := l.load(t.Context(), w.client(), 4, 6)
			err := doomed.Wait()
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:errcheck // on unix it is one
				t.Fatalf("it was not killed: %v", err)
			}
			startParticipant(t, l, w, "one", "")
			wait()
			l.check()
		})
	}
}
