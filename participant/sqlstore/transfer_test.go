// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/internal/databases"
	"github.com/assent-tx/assent/participant"
)

const (
	accounts = 4
	balance  = 100
)

// bank is accounts on a database of one system, and the instances that take part with it.
type bank struct {
	*shop
	name string
}

func openBank(t *testing.T, on *system) *bank {
	t.Helper()
	db := on.open(t)
	makeStock(t, db)
	for n := range accounts {
		exec(t, db, fmt.Sprintf(`INSERT INTO stock VALUES ('%d', %d, 0, 0)`, n, balance))
	}
	return &bank{&shop{on: on, db: db}, "bank-" + on.name}
}

// run runs an instance, which leaves and comes again, until ctx ends. While its database is away it cannot begin, and tries on.
func (b *bank) run(ctx context.Context, t *testing.T, nc *nats.Conn, ready func()) {
	for ctx.Err() == nil {
		life, leave := context.WithTimeout(ctx, time.Duration(200+rand.IntN(600))*time.Millisecond)
		if err := b.live(life, nc, ready); errors.Is(err, participant.ErrLogLost) {
			t.Errorf("%s: %v", b.name, err)
		}
		leave()
	}
}

func (b *bank) live(ctx context.Context, nc *nats.Conn, ready func()) error {
	cfg := b.on.config(&calls{})
	cfg.Name = b.name
	store, err := Open(ctx, b.db, cfg)
	if err != nil {
		return err
	}
	p, err := participant.New(nc, participant.Config{Name: b.name, Handler: store})
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-p.Ready():
			ready()
		case <-ctx.Done():
		}
	}()
	return p.Run(ctx)
}

// Transfers between banks on different databases, each of which has two instances that come and go, while MariaDB and PostgreSQL are
// killed with SIGKILL now and then: in the end nothing is reserved, promised or held any more, and the sum of all accounts is what it was.
func TestTransfers(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
	must(t, err)
	defer func() { must(t, server.Close()) }()
	connect := func() *nats.Conn {
		nc, err := server.Connect()
		must(t, err)
		return nc
	}
	nc := connect()
	defer nc.Close()
	ctx, stop := context.WithCancel(context.Background())
	leader := connect()
	defer leader.Close()
	c, err := coordinator.New(leader, coordinator.Config{})
	must(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	var banks []*bank
	var joined sync.WaitGroup
	for _, on := range systems {
		b := openBank(t, on)
		banks = append(banks, b)
		for range 2 {
			joined.Add(1)
			ready := sync.OnceFunc(joined.Done)
			nc := connect()
			running.Go(func() {
				defer nc.Close()
				b.run(ctx, t, nc, ready)
			})
		}
	}
	joined.Wait()
	client, err := assent.New(nc, assent.Config{})
	must(t, err)
	maria, pg := databases.SharedMariaDB(t), databases.SharedPostgres(t)
	committed := transfer(t, client, banks, func() {
		if err := errors.Join(maria.Kill(), pg.Kill(), maria.Start(), pg.Start()); err != nil {
			t.Error(err)
		}
	})
	client.Close()
	for _, b := range banks {
		b.wantSettled(t)
	}
	stop()
	running.Wait()
	sum := int64(0)
	for _, b := range banks {
		var n int64
		must(t, b.db.QueryRowContext(t.Context(), `SELECT SUM(available) + SUM(reserved) FROM stock`).Scan(&n))
		sum += n
	}
	if want := int64(len(banks) * accounts * balance); sum != want || committed == 0 {
		t.Fatalf("%d transfers were committed, and the sum is %d, want %d", committed, sum, want)
	}
}

// transfer makes transfers, some with keys, until there were enough, and counts those that were committed. After a third and two
// thirds of them it does harm.
func transfer(t *testing.T, client *assent.Client, banks []*bank, harm func()) (committed int) {
	transfers := 150
	if testing.Short() {
		transfers = 40
	}
	var (
		mu      sync.Mutex
		clients sync.WaitGroup
	)
	made := make(chan struct{}, transfers)
	clients.Go(func() {
		for n := range 2 * transfers / 3 {
			if <-made; n == transfers/3 {
				harm()
			}
		}
		harm()
	})
	for n := range 8 {
		clients.Go(func() {
			for i := range transfers / 8 {
				made <- struct{}{}
				from, to := banks[rand.IntN(len(banks))], banks[rand.IntN(len(banks))]
				a, b, cents := fmt.Sprint(rand.IntN(accounts)), fmt.Sprint(rand.IntN(accounts)), int64(1+rand.IntN(balance))
				err := client.Do(t.Context(), func(tx *assent.Tx) error {
					var options, options2 []assent.OpOption
					if (n+i)%2 == 0 {
						options, options2 = append(options, assent.Keys(a)), append(options2, assent.Keys(b))
					}
					tx.Enlist(from.name, order{a, cents}, options...)
					tx.Enlist(to.name, order{b, -cents}, options2...)
					return nil
				})
				switch {
				case err == nil:
					mu.Lock()
					committed++
					mu.Unlock()
				case !errors.Is(err, assent.ErrAborted):
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
	return committed
}

// wantSettled waits until all outcomes have come, and checks that they have left nothing.
func (b *bank) wantSettled(t *testing.T) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		var open int
		must(t, b.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM assent_branches WHERE forget IS NULL`).Scan(&open))
		if open == 0 {
			break
		}
		select {
		case <-look.C:
		case <-deadline.C:
			t.Fatalf("%s: %d branches are still in doubt", b.name, open)
		}
	}
	var reserved, incoming sql.NullInt64
	must(t, b.db.QueryRowContext(t.Context(), `SELECT SUM(reserved), SUM(incoming) FROM stock`).Scan(&reserved, &incoming))
	if keys := b.count(t, "assent_keys"); reserved.Int64 != 0 || incoming.Int64 != 0 || keys != 0 {
		t.Errorf("%s: %d reserved, %d incoming, %d keys when all is over", b.name, reserved.Int64, incoming.Int64, keys)
	}
}
