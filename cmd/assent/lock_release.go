// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/locks"
)

// releaseOptions are the flags of `assent lock release`.
type releaseOptions struct {
	bucket string
	kind   string
	force  bool
	yes    bool
}

// releaseReport is the JSON object of `assent lock release`.
type releaseReport struct {
	Bucket string `json:"bucket"`
	// By is who did it, as this machine knows them.
	By string `json:"by"`
	// Released is what was held and waited for before.
	Released locks.Info `json:"released"`
}

func newLockReleaseCommand(g *globals) *cobra.Command {
	o := &releaseOptions{}
	cmd := &cobra.Command{
		Use:   "release --force KEY",
		Short: "Take a lock away from those who hold it",
		Long: `Take a lock away from those who hold it, and pass it to the next waiter, with a greater fencing token.

A lock is given back by its holder, and is free by itself when the holder has been dead for its TTL. This is for a holder that
lives but hangs. It is not stopped: it may go on with what the lock protects, until it notices, and writes of its that
carry no token, or to where none is compared, take effect. Make sure that it does no harm.

It asks before it does anything; without a terminal --yes has to be given. Who did it is logged on standard error.`,
		Example: "  assent lock release --force backup\n  assent lock release --force --yes --kind election scheduler --json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.releaseLock(cmd.Context(), o, args[0])
		},
	}
	flags := cmd.Flags()
	addBucketFlag(flags, &o.bucket)
	flags.StringVar(&o.kind, "kind", string(locks.KindLock), "what KEY is: lock, semaphore or election")
	flags.BoolVar(&o.force, "force", false, "required: the holder is not asked, and may go on as if it held it")
	flags.BoolVar(&o.yes, "yes", false, "do not ask")
	return cmd
}

func (o *releaseOptions) check() error {
	switch locks.Kind(o.kind) {
	case locks.KindLock, locks.KindSemaphore, locks.KindElection:
	default:
		return usagef("--kind %q: want lock, semaphore or election", o.kind)
	}
	if !o.force {
		return usagef("a lock is given back by its holder, and free by itself when that has died; to take it from one that lives, " +
			"and that may go on as if it held it, give --force")
	}
	return nil
}

func (g *globals) releaseLock(ctx context.Context, o *releaseOptions, key string) error {
	if err := errors.Join(o.check(), checkKey(key)); err != nil {
		return err
	}
	if !o.yes && !isTerminal(g.in) {
		return usagef("there is no terminal to ask on: give --yes")
	}
	log, err := g.logger()
	if err != nil {
		return err
	}
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	held, err := o.find(ctx, nc, key)
	if err != nil {
		return err
	}
	if !o.yes && !g.confirm(ctx, held) {
		return &codedError{"declined", errors.New("nothing was released")}
	}
	released, err := locks.ForceRelease(ctx, nc, o.bucket, locks.Kind(o.kind), key)
	switch {
	case errors.Is(err, locks.ErrNotHeld), errors.Is(err, locks.ErrNoBucket):
		return o.notHeld(key)
	case err != nil:
		return explainLock(err)
	}
	by := whoami()
	log.WithFields(logrus.Fields{"bucket": o.bucket, "by": by}).Warn("released by force: ", describe(&released))
	if g.JSON {
		return g.printJSON(&releaseReport{o.bucket, by, released})
	}
	fmt.Fprintln(g.out, "released", describe(&released))
	return nil
}

// find is what is held.
func (o *releaseOptions) find(ctx context.Context, nc *nats.Conn, key string) (*locks.Info, error) {
	all, _, err := readLocks(ctx, nc, o.bucket)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Kind == locks.Kind(o.kind) && all[i].Key == key && (len(all[i].Holders) > 0 || all[i].Problem != "") {
			return &all[i], nil
		}
	}
	return nil, o.notHeld(key)
}

func (o *releaseOptions) notHeld(key string) error {
	return &codedError{"not_found", fmt.Errorf("the %s %q is not held in bucket %s: assent lock list shows what is", o.kind, key, o.bucket)}
}

// describe is a lock in a sentence: what it is, who holds it, who waits.
func describe(l *locks.Info) string {
	var holders []string
	for i := range l.Holders {
		h := &l.Holders[i]
		holders = append(holders, fmt.Sprintf("%s since %s (%s, token %v)", h.Owner, clock(h.Since), modeOf(l, h), h.Token))
	}
	if l.Problem != "" {
		return plain(fmt.Sprintf("%s %s, whose record cannot be read: %s", l.Kind, l.Key, l.Problem))
	}
	return plain(fmt.Sprintf("%s %s, held by %s; %d waiting", l.Kind, l.Key, strings.Join(holders, ", "), len(l.Waiters)))
}

// confirm shows what would be released, and asks. Anything but a yes is a no, and so is a signal.
func (g *globals) confirm(ctx context.Context, l *locks.Info) bool {
	fmt.Fprintln(g.errOut, describe(l))
	fmt.Fprint(g.errOut, "The holder is not stopped. Release? [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(g.in).ReadString('\n') // what could be read of it is the answer
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		return line == "y" || line == "yes"
	case <-ctx.Done():
		fmt.Fprintln(g.errOut)
		return false
	}
}

// isTerminal tells whether somebody may be there to answer. A character device that is none, such as /dev/null, ends at once,
// which is a no.
func isTerminal(in any) bool {
	file, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// whoami is the user and the machine.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}
