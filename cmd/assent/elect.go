// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/locks"
)

// electOptions are the flags of `assent elect`.
type electOptions struct {
	sessionOptions
	grace   time.Duration
	observe bool
}

func newElectCommand(g *globals) *cobra.Command {
	o := &electOptions{}
	cmd := &cobra.Command{
		Use: "elect NAME [flags] -- COMMAND [ARGUMENT…]",

		DisableFlagsInUseLine: true,

		Short: "Run a command while leading an election, or watch who leads",
		Long: `Stand for the election NAME, and run COMMAND while leading: of all that do so, one at a time runs its. COMMAND has the term's
fencing token in $ASSENT_TOKEN and NAME in $ASSENT_ELECTION.

When COMMAND ends by itself, the leader resigns and ends with its exit code. When the leadership is lost (no renewal was acknowledged for
--ttl, or somebody released it by force), COMMAND gets SIGTERM, and SIGKILL if it has not ended after --grace; then this process
stands again, until it is told to end. SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to COMMAND, as assent lock does; the leader
resigns after it has ended. When COMMAND does not run, they end this process with exit code 0.

With --observe it only prints who leads, and again whenever that changes: a line, or with --json an object a line.

` + electCodes,
		Example: `  assent elect scheduler -- ./scheduler
  assent elect scheduler --ttl 3s --owner rack-7 -- ./scheduler
  assent elect scheduler --observe --json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.observe {
				return cobra.ExactArgs(1)(cmd, args)
			}
			return keyAndCommand("NAME")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return g.helpOnly(cmd, args)
			}
			if err := errors.Join(checkKey(args[0]), o.check(), checkGrace(o.grace)); err != nil {
				return err
			}
			if o.observe {
				return g.observe(cmd.Context(), o, args[0])
			}
			return g.elect(cmd.Context(), o, args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	addGraceFlag(flags, &o.grace)
	flags.BoolVar(&o.observe, "observe", false, "print who leads, and every change, instead of standing for it")
	return cmd
}

const electCodes = `Exit codes: COMMAND's own, 128+N when signal N ended it. Otherwise: 0 told to end while COMMAND did not run, 123 told to end after the
leadership was lost, 125 assent failed, 126 COMMAND cannot be executed, 127 it was not found, 2 wrong usage.`

// electRun is one run of `assent elect`.
type electRun struct {
	*electOptions
	name    string
	log     *logrus.Logger
	signals *signals
	nc      *nats.Conn
	stood   bool // a session was open once: settings and arguments are right
}

func (g *globals) elect(ctx context.Context, o *electOptions, name string, args []string) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	c, err := newChild(g, args, o.grace, log)
	if err != nil {
		return err
	}
	r := &electRun{electOptions: o, name: name, log: log, signals: takeSignals(ctx)}
	defer r.signals.stop()
	if r.nc, err = g.connect(); err != nil {
		return ours(err)
	}
	defer r.nc.Close()
	for {
		session, term, err := r.campaign(ctx)
		if err != nil || term == nil {
			return err
		}
		end, err := c.run(r.signals, term.Done(), "ASSENT_TOKEN="+term.Token().String(), "ASSENT_ELECTION="+name)
		lost := giveBack(ctx, session, term, log) != nil || end.lost
		switch {
		case err != nil:
			return err
		case end.lost && end.told == nil:
			log.WithField("election", name).Warn("the leadership is lost: standing again")
		case lost:
			g.complain(errors.New("the leadership was lost while the command ran: another may have led"))
			return &exitError{exitLost, nil}
		case end.code != 0:
			return &exitError{end.code, nil}
		default:
			return nil
		}
	}
}

// electPause is between two attempts to stand for an election when NATS does not answer.
const electPause = time.Second

// campaign stands for the election until this process leads, or a signal comes: then there is no term.
func (r *electRun) campaign(ctx context.Context) (*locks.Session, *locks.Lock, error) {
	waiting, stop := r.signals.during(ctx)
	session, term, err := r.stand(waiting)
	for err != nil && r.stood && waiting.Err() == nil && !hopeless(err) {
		r.log.WithError(err).Warn("standing for the election failed: trying again")
		sleep(waiting, electPause)
		session, term, err = r.stand(waiting)
	}
	signal := stop()
	switch {
	case signal != nil:
		r.log.WithFields(logrus.Fields{"election": r.name, "signal": signal}).Info("told to end, without leading")
		_ = giveBack(ctx, session, term, r.log) // nobody has used it
		return nil, nil, nil
	case err != nil:
		return nil, nil, ours(explainLock(err))
	}
	r.log.WithFields(logrus.Fields{"election": r.name, "token": term.Token().String()}).Info("leading")
	return session, term, nil
}

// stand opens a session and campaigns in it. If that fails there is no session.
func (r *electRun) stand(ctx context.Context) (*locks.Session, *locks.Lock, error) {
	session, err := locks.Open(ctx, r.nc, r.config(r.log))
	if err != nil {
		return nil, nil, err
	}
	r.stood = true
	election, err := session.Election(r.name)
	var term *locks.Lock
	if err == nil {
		term, err = election.Campaign(ctx, locks.OnQueue(r.tellPosition))
	}
	if err != nil {
		_ = giveBack(ctx, session, nil, r.log)
		return nil, nil, err
	}
	return session, term, nil
}

func (r *electRun) tellPosition(p locks.Position) {
	entry := r.log.WithFields(logrus.Fields{"election": r.name, "ahead": p.Ahead})
	if len(p.Holders) > 0 {
		entry = entry.WithField("leader", plain(p.Holders[0].Owner))
	}
	entry.Info("standing for the election")
}

// hopeless tells whether trying again cannot help.
func hopeless(err error) bool {
	return errors.Is(err, locks.ErrInvalid) || errors.Is(err, locks.ErrSettings) || errors.Is(err, locks.ErrConflict) ||
		errors.Is(err, nats.ErrConnectionClosed)
}

// sleep waits, unless the context ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
