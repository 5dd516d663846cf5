// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/internal/streams"
	"github.com/assent-tx/assent/locks"
)

// steward computes the rings of all groups, while it holds the lock of that name. Two at once do no harm: every ring is stored
// by compare-and-swap on the one that it was computed from, and both compute the same.
type steward struct {
	s   *store
	cfg *ServiceConfig
	log *logrus.Logger
}

const (
	// againTime is the pause before another session is opened, give or take a half.
	againTime = time.Second
	// handOverTime is how long a steward that ends waits to hand over. If it cannot, its session runs out.
	handOverTime = time.Second
)

func newSteward(s *store, cfg *ServiceConfig) *steward { return &steward{s, cfg, cfg.Log} }

// run campaigns, and is the steward whenever it is granted that, until ctx ends. The error is of a bucket whose settings are not
// safe.
func (st *steward) run(ctx context.Context) error {
	for {
		err := st.serve(ctx)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it was told to end
		case errors.Is(err, locks.ErrSettings), errors.Is(err, ErrSettings):
			return err
		}
		st.log.WithError(err).Warn("this router is not the steward, and cannot become it at the moment; trying again")
		if !streams.Pause(ctx, againTime/2+rand.N(againTime)) {
			return nil
		}
	}
}

// serve opens a session, and is the steward for one tenure.
func (st *steward) serve(ctx context.Context) error {
	session, err := locks.Open(ctx, st.s.nc, locks.Config{
		Bucket: st.s.names.nodesBucket(), Streams: 1, Replicas: st.cfg.Replicas, TTL: st.cfg.TTL, Owner: st.cfg.Name, Log: st.log,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverTime)
		defer cancel()
		if err := session.Close(closing); err != nil {
			st.log.WithError(err).Debug("the steward's session was not closed; it runs out")
		}
	}()
	held, err := session.Lock(ctx, stewardLock)
	if err != nil {
		return err
	}
	st.log.Info("this router is the steward")
	ctx, cancel := held.Context(ctx)
	defer cancel()
	return newTenure(st.s, session, st.log).run(ctx)
}
