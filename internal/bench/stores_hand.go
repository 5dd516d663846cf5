// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// hand is the two-phase commit that one would write without a coordinator, for as long as nothing crashes. Who crashes between the phases
// leaves both databases prepared, and nobody who knows whether they are to be committed.
type hand struct {
	pools [2]*pgxpool.Pool
	gids  atomic.Int64
}

// transfer prepares both at once, and then commits both at once.
func (h *hand) transfer(ctx context.Context, _ int) error {
	gid, entries := h.gid(), transferOf()
	if err := both(func(i int) error { return h.prepare(ctx, i, gid, entries[i]) }); err != nil {
		return err
	}
	return both(func(i int) error { return h.commit(ctx, i, gid) })
}

func (h *hand) gid() string { return "bench:" + strconv.FormatInt(h.gids.Add(1), 10) }

func (h *hand) prepare(ctx context.Context, i int, gid string, entry pgEntry) error {
	return pgx.BeginTxFunc(ctx, h.pools[i], pgx.TxOptions{CommitQuery: "PREPARE TRANSACTION '" + gid + "'"}, func(tx pgx.Tx) error { return entry.run(ctx, tx) })
}

func (h *hand) commit(ctx context.Context, i int, gid string) error {
	_, err := h.pools[i].Exec(ctx, "COMMIT PREPARED '"+gid+"'")
	return err
}

func both(do func(i int) error) error {
	first := make(chan error, 1)
	go func() { first <- do(0) }()
	return errors.Join(do(1), <-first)
}

// remoteHand is the same with the databases behind NATS, each in a service with a connection of its own, and with the decision kept, by one
// durable message: the least without which a crash leaves in doubt what is prepared. Nothing finds out about crashes, no message is sent
// again, nobody is told of an error but the client.
type remoteHand struct {
	nc         *nats.Conn
	js         jetstream.JetStream
	hand       *hand
	committing sync.WaitGroup
	failed     atomic.Pointer[error] // the first commit's
}

// handDecisions is the stream of the decisions, and its subject; handPrepare and handCommit are followed by the number of the database.
const (
	handDecisions = "assent-bench-decisions"
	handPrepare   = "assent-bench-prepare."
	handCommit    = "assent-bench-commit."
)

// handBranch is what is asked of a database.
type handBranch struct {
	GID   string  `json:"gid"`
	Entry pgEntry `json:"entry"`
}

func (r *remoteHand) start(ctx context.Context, c *cluster, h *hand) (err error) {
	r.hand = h
	if r.nc, err = c.dial("by hand"); err != nil {
		return err
	}
	if r.js, err = newJetStream(r.nc); err != nil {
		return err
	}
	if _, err = r.js.CreateStream(ctx, jetstream.StreamConfig{Name: handDecisions, Subjects: []string{handDecisions}}); err != nil {
		return err
	}
	for i := range h.pools {
		if err := r.serve(ctx, c, i); err != nil {
			return err
		}
	}
	return nil
}

// serve answers for a database: with nothing when it is done, or with the error.
func (r *remoteHand) serve(ctx context.Context, c *cluster, i int) error {
	nc, err := c.dial(fmt.Sprintf("by hand, database %d", i+1))
	if err != nil {
		return err
	}
	for subject, do := range map[string]func(handBranch) error{
		handPrepare: func(b handBranch) error { return r.hand.prepare(ctx, i, b.GID, b.Entry) },
		handCommit:  func(b handBranch) error { return r.hand.commit(ctx, i, b.GID) },
	} {
		if _, err := nc.Subscribe(subject+strconv.Itoa(i), func(msg *nats.Msg) {
			go func() {
				var b handBranch
				err := json.Unmarshal(msg.Data, &b)
				if err == nil {
					err = do(b)
				}
				var answer []byte
				if err != nil {
					answer = []byte(err.Error())
				}
				_ = msg.Respond(answer) // who gets none fails
			}()
		}); err != nil {
			return err
		}
	}
	return nc.Flush()
}

// transfer ends with the decision, as a transaction does for its client; the commits follow.
func (r *remoteHand) transfer(ctx context.Context, _ int) error {
	gid, entries := r.hand.gid(), transferOf()
	ask := func(ctx context.Context, subject string) error {
		return both(func(i int) error { return r.ask(ctx, subject+strconv.Itoa(i), handBranch{gid, entries[i]}) })
	}
	if err := ask(ctx, handPrepare); err != nil {
		return err
	}
	if _, err := r.js.Publish(ctx, handDecisions, []byte(gid)); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // also when nobody measures any more
	r.committing.Go(func() {
		if err := ask(ctx, handCommit); err != nil {
			r.failed.CompareAndSwap(nil, &err)
		}
	})
	return nil
}

func (r *remoteHand) ask(ctx context.Context, subject string, b handBranch) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	answer, err := r.nc.RequestWithContext(ctx, subject, data)
	if err == nil && len(answer.Data) > 0 {
		err = fmt.Errorf("%s: %s", subject, answer.Data)
	}
	return err
}

// settle waits for the commits that follow, and gives an error if one failed.
func (r *remoteHand) settle() error {
	r.committing.Wait()
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}
