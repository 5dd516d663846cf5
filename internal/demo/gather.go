// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/examples/bank"
	"github.com/assent-tx/assent/internal/protocol"
)

// evidence is what everybody says, each for itself.
type evidence struct {
	places    []place               // where money was in the beginning, openingBalance each
	transfers []transfer            // the clients
	log       map[assent.ID]*logged // the log's transactions, as a reader of its own folds them
	open      int                   // transactions that the log has not ended
	inDoubt   int                   // branches whose participant does not know the outcome, as the coordinator sees it
	banks     map[string]*testimony
	// owners say at which bank an account belongs of which the place does not say it: the ring.
	owners map[string]string
}

// logged is what the log says of a transaction.
type logged struct {
	outcome assent.Outcome
	// owed are the participants that were sent a commit, because they had voted yes.
	owed []string
}

// testimony is what stands in a bank's file.
type testimony struct {
	accounts map[string]bank.Account
	finished map[assent.ID]bool // true: committed
	prepared []assent.ID
}

// quietPatience is how long the participants may take to apply what is decided.
const quietPatience = 30 * time.Second

// gather asks everybody. It stops the processes: the files are read when nobody writes them.
func (c *cluster) gather(ctx context.Context, cfg *Config, l *load) (*evidence, error) {
	e := &evidence{
		places: c.scene.places(), transfers: l.transfers,
		log: make(map[assent.ID]*logged), banks: make(map[string]*testimony),
	}
	if err := c.untilQuiet(ctx); err != nil {
		return nil, err
	}
	var list coordinator.ParticipantsResponse
	if err := c.ask(ctx, "participants", nil, &list); err != nil {
		return nil, err
	}
	for _, p := range list.Participants {
		e.inDoubt += p.InDoubt
	}
	if err := c.readLog(ctx, e); err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	if err := c.scene.witness(ctx, c, e); err != nil {
		return nil, err
	}
	if err := c.stop(); err != nil {
		return nil, err
	}
	if cfg.tamper != nil {
		if err := cfg.tamper(c.dir); err != nil {
			return nil, err
		}
	}
	for _, p := range c.banks {
		var err error
		if e.banks[p.Name], err = readBank(ctx, c.bankFile(p.Name)); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// untilQuiet waits until no transaction is open. That some stay open is not its error: the log shows them.
func (c *cluster) untilQuiet(ctx context.Context) error {
	timed, cancel := context.WithTimeout(ctx, quietPatience)
	defer cancel()
	_ = c.until(timed, func() bool { // what is open then is in the log
		var list coordinator.ListResponse
		return c.ask(timed, "tx.list", &coordinator.ListRequest{Limit: 1}, &list) == nil && list.Open == 0
	})
	return context.Cause(ctx)
}

// readLog folds every shard's log, from its beginning to where it ends now.
func (c *cluster) readLog(ctx context.Context, e *evidence) error {
	var info coordinator.InfoResponse
	if err := c.ask(ctx, "info", nil, &info); err != nil {
		return err
	}
	js, err := jetstream.New(c.nc)
	if err != nil {
		return err
	}
	for shard := range info.Shards {
		if err := c.readShard(ctx, js, shard, e); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) readShard(ctx context.Context, js jetstream.JetStream, shard int, e *evidence) error {
	stream, err := js.Stream(ctx, c.subjects.Stream(shard))
	if err != nil {
		return err
	}
	state := stream.CachedInfo().State
	if state.FirstSeq > 1 {
		return fmt.Errorf("it was trimmed up to sequence %d: the demo took longer than its history", state.FirstSeq)
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	fold := protocol.NewFold(protocol.FoldConfig{}, protocol.Checkpoint{})
	for fold.Sequence() < state.LastSeq {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		if err := c.readMessage(shard, msg, fold, e); err != nil {
			return err
		}
	}
	open, _ := fold.Len()
	e.open += open
	return nil
}

func (c *cluster) readMessage(shard int, msg jetstream.Msg, fold *protocol.Fold, e *evidence) error {
	meta, err := msg.Metadata()
	if err != nil {
		return err
	}
	kind, participant := c.subjects.ParseLog(shard, msg.Subject())
	err = fold.Message(meta.Sequence.Stream, meta.Timestamp.UnixMilli(), kind, participant, msg.Data())
	for _, effect := range fold.Take() {
		e.note(&effect)
	}
	return err
}

// note takes what the fold gives for a record of the log.
func (e *evidence) note(effect *protocol.Effect) {
	if effect.Kind != protocol.Decided && effect.Kind != protocol.Send {
		return
	}
	if e.log[effect.Tx] == nil {
		e.log[effect.Tx] = &logged{}
	}
	l := e.log[effect.Tx]
	switch {
	case effect.Kind == protocol.Decided:
		l.outcome = effect.Outcome
	case effect.Outcome == assent.Committed && !slices.Contains(l.owed, effect.Participant):
		l.owed = append(l.owed, effect.Participant)
	}
}

func readBank(ctx context.Context, file string) (*testimony, error) {
	store, err := bank.Open(file, 0)
	if err != nil {
		return nil, err
	}
	t := &testimony{}
	var errs [3]error
	t.accounts, errs[0] = store.Accounts()
	t.finished, errs[1] = store.Finished()
	inDoubt, err := store.InDoubt(ctx)
	for i := range inDoubt {
		t.prepared = append(t.prepared, inDoubt[i].Tx)
	}
	errs[2] = err
	return t, errors.Join(errs[0], errs[1], errs[2], store.Close())
}
