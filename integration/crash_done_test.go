// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/integration/ledger"
	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/messages"
)

// A participant dies with outcomes that it has applied and not answered: the answers of those that are applied together leave together, up to
// 50 ms later. Each outcome comes again, to a handler that has applied it (Gray & Lamport, "Consensus on Transaction Commit", 2006: a resource
// manager may be told any number of times), is applied once, and its transaction is finished in the end.

// donePoints are between the applied outcome and its answer.
var donePoints = []string{"participant.outcome.applied:5", "participant.done.held:5"}

// spy counts what a participant is told, and hears what it answers. The test's goroutine alone uses it.
type spy struct {
	c     *cluster
	name  string
	heard []*nats.Subscription
	told  map[assent.ID]int
	done  map[assent.ID]bool
}

func (c *cluster) spy(name string) *spy {
	c.t.Helper()
	s := &spy{c: c, name: name, told: make(map[assent.ID]int), done: make(map[assent.ID]bool)}
	subjects := messages.Subjects{}
	for _, subject := range []string{subjects.Commits(name), subjects.Rollbacks(name), subjects.Dones(name)} {
		sub, err := c.nc.SubscribeSync(subject)
		if err != nil {
			c.t.Fatal(err)
		}
		s.heard = append(s.heard, sub)
	}
	s.listen()
	return s
}

// listen takes in whatever was sent until now.
func (s *spy) listen() {
	s.c.t.Helper()
	if err := s.c.nc.Flush(); err != nil { // its answer comes after all of that
		s.c.t.Fatal(err)
	}
	for _, sub := range s.heard {
		pending, _, err := sub.Pending()
		for ; err == nil && pending > 0; pending-- {
			var msg *nats.Msg
			if msg, err = sub.NextMsg(patience); err == nil {
				s.hear(msg)
			}
		}
		if err != nil {
			s.c.t.Fatal(err)
		}
	}
}

func (s *spy) hear(msg *nats.Msg) {
	var d messages.Decoder
	for line := range messages.Lines(msg.Data) {
		var effect messages.Effect
		var done messages.Done
		switch {
		case msg.Reply != "" && d.Effect(line, &effect) == nil:
			s.told[effect.Tx]++
		case msg.Reply == "" && d.Done(line, &done) == nil && !done.Working:
			s.done[done.Tx] = true
		}
	}
}

// unanswered are the transactions of whose outcome the participant was told, and how often, and has not said that it is applied.
func (s *spy) unanswered() map[assent.ID]int {
	s.c.t.Helper()
	s.listen()
	txs := make(map[assent.ID]int)
	for tx, times := range s.told {
		if !s.done[tx] {
			txs[tx] = times
		}
	}
	return txs
}

// dies waits until the participant has died, at a crash point, of something that it had not answered, and starts it again without one. What it
// dies of may be an outcome that it had answered, and was told a second time (a rollback, by the decision and by its vote that came later): then
// nothing has to come again, and it is to die once more.
func (s *spy) dies(n *node, point string) (lost map[assent.ID]int) {
	s.c.t.Helper()
	for {
		n.proc().await(s.c.t)
		if lost = s.unanswered(); len(lost) > 0 {
			n.restart()
			return lost
		}
		n.start(crashAt(point)...)
	}
}

// check wants something of what was not answered when the participant died to have been told again, all of it to be answered, and
// the log to say of every transaction whose outcome it was told that it is finished.
func (s *spy) check(lost map[assent.ID]int) {
	s.c.t.Helper()
	s.c.settle()
	s.listen()
	again := 0
	for tx, before := range lost {
		if s.told[tx] > before {
			again++
		}
		if !s.done[tx] {
			s.c.t.Errorf("%s: %s has never answered", tx, s.name)
		}
	}
	if again == 0 {
		s.c.t.Errorf("of %d outcomes that were not answered none came again", len(lost))
	}
	eventually(s.c.t, "all is finished in the log", func() error {
		finished := make(map[assent.ID]bool)
		var d messages.Decoder
		readLog(s.c.t, s.c.nc, 0, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) {
			for line := range messages.Lines(msg.Data()) {
				var f messages.Finished
				if msg.Subject() == (messages.Subjects{}.Finished(0)) && d.Finished(line, &f) == nil {
					finished[f.Tx] = true
				}
			}
		})
		for tx := range s.told {
			if !finished[tx] {
				return fmt.Errorf("%s is not", tx)
			}
		}
		return nil
	})
}

// A bank with a handler, and one with a batch handler.
func TestDonesAreLost(t *testing.T) {
	for kind, args := range map[string][]string{"single": nil, "batch": {"-batch"}} {
		for _, point := range donePoints {
			t.Run(name(kind, point), func(t *testing.T) {
				t.Parallel()
				c := start(t, setup{bank: args, crash: map[string]string{"bank-a": point}})
				s := c.spy("bank-a")
				l := c.load(6)
				lost := s.dies(c.banks["bank-a"], point)
				l.more(20)
				l.stop()
				s.check(lost)
				c.check()
			})
		}
	}
}

// The buckets of JetStream.
func TestDonesOfBucketsAreLost(t *testing.T) {
	for _, point := range donePoints {
		t.Run(name(point), func(t *testing.T) {
			t.Parallel()
			w := startBuckets(t, setup{}, point)
			s := w.spy("kv")
			stop := w.appends(6)
			lost := s.dies(w.kv, point)
			w.more(20)
			stop()
			s.check(lost)
			w.check()
		})
	}
}

// A database: what was prepared there is committed once, which its table of entries would refuse to be twice.
func TestDonesOfPostgresAreLost(t *testing.T) {
	if testing.Short() {
		t.Skip("a database server of its own takes its time, and shares nothing with the test: -short was given")
	}
	server := databases.Postgres(t, "max_prepared_transactions=100")
	for _, point := range donePoints {
		t.Run(name(point), func(t *testing.T) {
			c := start(t, setup{banks: []string{"bank-b"}})
			b := newPostgresBank(c, server)
			b.node.start(crashAt(point)...)
			b.node.ready()
			s := c.spy("postgres")
			l := b.load(6)
			lost := s.dies(b.node, point)
			l.more(20)
			l.stop()
			s.check(lost)
			b.check()
			must(t, b.db.Close(t.Context()))
		})
	}
}

// postgresBank is a bank whose accounts are in PostgreSQL, and to which money comes from one that has a ledger.
type postgresBank struct {
	*cluster
	node *node
	db   *pgx.Conn
}

func newPostgresBank(c *cluster, server *databases.Server) *postgresBank {
	c.t.Helper()
	dsn := server.Database(c.t)
	db, err := pgx.Connect(c.t.Context(), dsn)
	if err != nil {
		c.t.Fatal(err)
	}
	b := &postgresBank{cluster: c, db: db}
	for _, statement := range []string{
		"CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL)",
		"CREATE TABLE entries (tx text PRIMARY KEY)",
		fmt.Sprintf("INSERT INTO accounts SELECT n, 0 FROM generate_series(0, %d) AS n", ledger.Accounts-1),
	} {
		if _, err := db.Exec(c.t.Context(), statement); err != nil {
			c.t.Fatal(err)
		}
	}
	l := newLink(c.t, c.serverAddress)
	b.node = c.member("postgres", l, []string{"participant", "-url", l.URL(), "-name", "postgres", "-postgres", dsn})
	return b
}

// load moves cents to the bank by several clients at once.
func (b *postgresBank) load(clients int) *load {
	return b.busy(clients, func(int) func() {
		return func() {
			b.commit(context.Background(), b.draft(order{
				from: "bank-b", to: "postgres", cents: 1, timeout: 10 * time.Second, fromAcct: rand.IntN(ledger.Accounts), toAcct: rand.IntN(ledger.Accounts),
			}), "bank-b")
		}
	})
}

// check compares the database with the log, the clients and the other bank.
func (b *postgresBank) check() {
	b.t.Helper()
	stores, log := b.stores(), foldLog(b.t, b.nc)
	b.compareClients(log, stores)
	b.compareStores(log, stores)
	ctx := within(b.t, patience)
	rows, err := b.db.Query(ctx, "SELECT tx FROM entries")
	if err != nil {
		b.t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		b.t.Fatal(err)
	}
	for _, text := range ids {
		id, err := assent.ParseID(text)
		if err != nil || log.txs[id] == nil || log.txs[id].outcome != assent.Committed {
			b.t.Errorf("%s is in the database, and not committed (%v)", text, err)
		}
	}
	var total int64
	if err := b.db.QueryRow(ctx, "SELECT sum(balance) FROM accounts").Scan(&total); err != nil {
		b.t.Fatal(err)
	}
	committed := int64(b.book.count(assent.Committed))
	if n := int64(len(ids)); n != committed || total != committed || committed == 0 {
		b.t.Errorf("%d transfers are committed; the database has %d, and %d cents", committed, n, total)
	}
	if left, want := stores["bank-b"].Total(), int64(ledger.Accounts*ledger.Opening)-committed; left != want {
		b.t.Errorf("the other bank has %d cents, want %d", left, want)
	}
}
