// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/locks"
)

// leaderReport is a JSON object of `assent elect --observe`.
type leaderReport struct {
	Election string `json:"election"`
	// None: nobody leads; then the rest is left out.
	None    bool         `json:"none"`
	Session string       `json:"session,omitempty"`
	Owner   string       `json:"owner,omitempty"`
	Since   *time.Time   `json:"since,omitempty"`
	Token   *locks.Token `json:"token,omitempty"`
}

// observer prints who leads, each leader once.
type observer struct {
	g    *globals
	name string
	last *locks.Leader
}

// observe prints who leads until it is told to end.
func (g *globals) observe(ctx context.Context, o *electOptions, name string) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	watch := &observer{g: g, name: name}
	err = watch.run(ctx, nc, o.config(log), log)
	for ctx.Err() == nil && watch.last != nil && !hopeless(err) { // it was right once
		log.WithError(err).Warn("observing was interrupted: trying again")
		sleep(ctx, electPause)
		err = watch.run(ctx, nc, o.config(log), log)
	}
	if ctx.Err() != nil {
		return nil // as wanted
	}
	return explainLock(err)
}

// run observes for as long as one session lasts.
func (w *observer) run(ctx context.Context, nc *nats.Conn, cfg locks.Config, log *logrus.Logger) error {
	session, err := locks.Open(ctx, nc, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = giveBack(ctx, session, nil, log) }()
	election, err := session.Election(w.name)
	if err != nil {
		return err
	}
	for leader := range election.Observe(ctx) {
		if err := w.tell(leader); err != nil {
			return err // standard output is gone
		}
	}
	if err := session.Err(); err != nil {
		return err
	}
	return fmt.Errorf("observing the election %q ended", w.name)
}

// tell prints a leader, unless it was the last one printed.
func (w *observer) tell(leader locks.Leader) error {
	if w.last != nil && w.last.None == leader.None && w.last.Token == leader.Token {
		return nil
	}
	w.last = &leader
	if w.g.JSON {
		report := leaderReport{Election: w.name, None: leader.None}
		if !leader.None {
			report.Session, report.Owner, report.Since, report.Token = leader.Session, leader.Owner, &leader.Since, &leader.Token
		}
		return w.g.printJSON(&report)
	}
	line := "nobody leads"
	if !leader.None {
		line = fmt.Sprintf("%s leads since %s, token %v", plain(leader.Owner), clock(leader.Since), leader.Token)
	}
	_, err := fmt.Fprintln(w.g.out, line)
	return err
}
