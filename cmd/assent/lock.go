// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tx/assent/locks"
)

// sessionOptions are the flags of commands that take locks.
type sessionOptions struct {
	bucket   string
	owner    string
	ttl      time.Duration
	replicas int
}

func (o *sessionOptions) addFlags(flags *pflag.FlagSet) {
	addBucketFlag(flags, &o.bucket)
	flags.StringVar(&o.owner, "owner", "", "`text` that tells people who holds it, at most 64 bytes (default host:pid)")
	flags.DurationVar(&o.ttl, "ttl", 10*time.Second, "how long it stays held when this process dies or is cut off, 1s to 1h")
	flags.IntVar(&o.replicas, "replicas", 1, "how many servers hold the bucket, if it is made now: 1, 3 or 5")
}

func addBucketFlag(flags *pflag.FlagSet, bucket *string) {
	flags.StringVar(bucket, "bucket", locks.DefaultBucket, "`name` of the bucket of locks")
}

func (o *sessionOptions) config(log *logrus.Logger) locks.Config {
	return locks.Config{Bucket: o.bucket, Owner: o.owner, TTL: o.ttl, Replicas: o.replicas, Log: log}
}

// check refuses what the zero of a locks.Config would take for its default.
func (o *sessionOptions) check() error {
	switch {
	case o.ttl < time.Second || o.ttl > time.Hour:
		return usagef("--ttl %v: want 1s to 1h", o.ttl)
	case o.bucket == "":
		return usagef("--bucket is empty: want a name of [A-Za-z0-9_-]")
	case o.replicas != 1 && o.replicas != 3 && o.replicas != 5:
		return usagef("--replicas %d: want 1, 3 or 5", o.replicas)
	default:
		return nil
	}
}

// lockOptions are the flags of `assent lock`.
type lockOptions struct {
	sessionOptions
	shared  bool
	try     bool
	wait    time.Duration
	permits int
	grace   time.Duration
}

func newLockCommand(g *globals) *cobra.Command {
	o := &lockOptions{}
	cmd := &cobra.Command{
		Use: "lock KEY [flags] -- COMMAND [ARGUMENT…]",

		DisableFlagsInUseLine: true,

		Short: "Hold a lock while a command runs; list and release locks",
		Long: `Take the lock KEY, run COMMAND while it is held, and give it back when COMMAND has ended. COMMAND has standard input, output and
error as they are, the lock's fencing token in $ASSENT_TOKEN and KEY in $ASSENT_LOCK_KEY.

If the lock is lost (no renewal was acknowledged for --ttl, or somebody released it by force), COMMAND gets SIGTERM, and SIGKILL if it
has not ended after --grace. From the loss on another may hold the lock: let what COMMAND writes to compare the token.

SIGTERM, SIGINT, SIGHUP and SIGQUIT are passed on to COMMAND, each time, and the lock is given back only after it has ended.
From a terminal, those that keys send reach COMMAND anyway.

` + lockCodes + `

KEY cannot be one of this command's own, list and release.`,
		Example: `  assent lock backup -- ./backup.sh
  assent lock backup --try -- ./backup.sh            # not at all, if somebody else is at it
  assent lock report --shared --wait 1m -- ./read.sh
  assent lock api --permits 4 -- ./call.sh           # four at a time
  assent lock list
  assent lock release --force backup`,
		Args: keyAndCommand("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return g.helpOnly(cmd, args)
			}
			if err := errors.Join(checkKey(args[0]), o.check(cmd.Flags().Changed)); err != nil {
				return err
			}
			return g.runLock(cmd.Context(), o, args[0], args[1:])
		},
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	flags.BoolVar(&o.shared, "shared", false, "share it with others that do; exclusive holders are kept out")
	flags.BoolVar(&o.try, "try", false, "do not wait: end with exit code 124 if it is held")
	flags.DurationVar(&o.wait, "wait", 0, "how long to wait for it before ending with exit code 124 (default for ever)")
	flags.IntVar(&o.permits, "permits", 0, "take one of `N` permits of a semaphore instead of a lock; the same N for all")
	addGraceFlag(flags, &o.grace)
	cmd.AddCommand(newLockListCommand(g), newLockReleaseCommand(g))
	return cmd
}

func addGraceFlag(flags *pflag.FlagSet, grace *time.Duration) {
	flags.DurationVar(grace, "grace", 10*time.Second, "how long COMMAND has to end by itself after SIGTERM when the lock is lost; 0: none, SIGKILL at once")
}

// keyAndCommand wants one argument before "--" and at least one after it; none at all is a wish for help.
func keyAndCommand(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if dash := cmd.ArgsLenAtDash(); len(args) > 0 && (dash != 1 || len(args) < 2) || len(args) == 0 && dash >= 0 {
			return fmt.Errorf("want %s %s -- COMMAND [ARGUMENT…]", cmd.CommandPath(), name)
		}
		return nil
	}
}

func checkKey(key string) error {
	if err := locks.CheckKey(key); err != nil {
		return usageError(&codedError{"invalid", err})
	}
	return nil
}

func (o *lockOptions) check(changed func(string) bool) error {
	if err := o.sessionOptions.check(); err != nil {
		return err
	}
	switch {
	case changed("try") && changed("wait"):
		return usagef("--try and --wait: give one of them")
	case changed("wait") && o.wait <= 0:
		return usagef("--wait %v: want more than 0, or --try", o.wait)
	case changed("permits") && o.permits < 1:
		return usagef("--permits %d: want at least 1", o.permits)
	case changed("permits") && o.shared:
		return usagef("--permits and --shared: give one of them; a permit is not shared")
	default:
		return checkGrace(o.grace)
	}
}

func checkGrace(grace time.Duration) error {
	if grace < 0 {
		return usagef("--grace %v: want 0 or more", grace)
	}
	return nil
}

// lockRun is one run of `assent lock`.
type lockRun struct {
	*lockOptions
	key     string
	log     *logrus.Logger
	signals *signals
}

// runLock holds the lock while the command runs. Errors after its start are told on standard error, for standard output is
// the command's.
func (g *globals) runLock(ctx context.Context, o *lockOptions, key string, args []string) error {
	log, err := g.logger()
	if err != nil {
		return err
	}
	c, err := newChild(g, args, o.grace, log)
	if err != nil {
		return err
	}
	r := &lockRun{lockOptions: o, key: key, log: log, signals: takeSignals(ctx)}
	defer r.signals.stop()
	nc, err := g.connect()
	if err != nil {
		return ours(err)
	}
	defer nc.Close()
	session, lock, err := r.acquire(ctx, nc)
	if err != nil {
		return err
	}
	end, err := c.run(r.signals, lock.Done(), "ASSENT_TOKEN="+lock.Token().String(), "ASSENT_LOCK_KEY="+key)
	returned := giveBack(ctx, session, lock, log)
	switch {
	case err != nil:
		return err
	case end.lost || returned != nil:
		g.complain(fmt.Errorf("the lock %q was lost while the command ran (which ended with exit code %d): another may have held it", key, end.code))
		return &exitError{exitLost, nil}
	case end.code != 0:
		return &exitError{end.code, nil}
	default:
		return nil
	}
}

// acquire opens a session and takes the lock, unless a signal comes first.
func (r *lockRun) acquire(ctx context.Context, nc *nats.Conn) (*locks.Session, *locks.Lock, error) {
	waiting, stop := r.signals.during(ctx)
	session, err := locks.Open(waiting, nc, r.config(r.log))
	var lock *locks.Lock
	if err == nil {
		lock, err = r.take(waiting, session)
	}
	if signal := stop(); signal != nil && err == nil {
		_ = giveBack(ctx, session, lock, r.log) // nobody has used it
		return nil, nil, interrupted(signal, r.key)
	} else if err != nil {
		_ = giveBack(ctx, session, nil, r.log)
		if signal != nil {
			return nil, nil, interrupted(signal, r.key)
		}
		return nil, nil, ours(explainLock(err))
	}
	return session, lock, nil
}

// take takes the lock, or a permit.
func (r *lockRun) take(ctx context.Context, session *locks.Session) (*locks.Lock, error) {
	options := []locks.Option{locks.OnQueue(r.tellPosition)}
	if r.shared {
		options = append(options, locks.Shared())
	}
	if r.wait > 0 {
		options = append(options, locks.Wait(r.wait))
	}
	if r.permits == 0 {
		if r.try {
			return session.TryLock(ctx, r.key, options...)
		}
		return session.Lock(ctx, r.key, options...)
	}
	semaphore, err := session.Semaphore(r.key, r.permits)
	if err != nil {
		return nil, err
	}
	if r.try {
		return semaphore.TryAcquire(ctx, options...)
	}
	return semaphore.Acquire(ctx, options...)
}

func (r *lockRun) tellPosition(p locks.Position) {
	entry := r.log.WithFields(logrus.Fields{"key": r.key, "ahead": p.Ahead})
	if len(p.Holders) > 0 {
		entry = entry.WithField("held_by", plain(p.Holders[0].Owner))
	}
	entry.Info("waiting for the lock")
}

// giveBackPatience is how long giving a lock back may take. What is not given back by then is free after its TTL.
const giveBackPatience = 10 * time.Second

// giveBack gives the lock back and ends the session; either may be nil. It fails only with ErrLost: then the lock was not held to the
// end. Anything else is told, and is no fault of the command's.
func giveBack(ctx context.Context, session *locks.Session, lock *locks.Lock, log *logrus.Logger) (lost error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBackPatience)
	defer cancel()
	if lock != nil {
		err := lock.Unlock(ctx)
		switch {
		case errors.Is(err, locks.ErrLost):
			lost = err
		case err != nil:
			log.WithError(err).Warn("the lock could not be given back: it is free at the latest when its TTL has passed")
		}
	}
	if session != nil {
		if err := session.Close(ctx); err != nil && !errors.Is(err, locks.ErrLost) {
			log.WithError(err).Warn("closing the session of locks")
		}
	}
	return lost
}

// interrupted is the end by a signal before the command was run.
func interrupted(signal os.Signal, key string) error {
	return &exitError{signalCode(signal), &codedError{codeInterrupted, fmt.Errorf("%v signal received before %q was held: the command was not run", signal, key)}}
}
