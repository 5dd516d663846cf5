// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tx/assent/router"
)

// changeOptions are the flags of the commands that change a ring.
type changeOptions struct {
	dryRun  bool
	wait    bool
	timeout time.Duration
}

// changeReport is the JSON object of the commands that change a ring.
type changeReport struct {
	*router.ChangeResponse
	// Part is what part of all partitions moves, 0 to 1.
	Part float64 `json:"part"`
	// Settled says, of --wait, whether nothing moves any more.
	Settled *bool `json:"settled,omitempty"`
	// Error is why not, when the change itself was made.
	Error *errorReport `json:"error,omitempty"`
}

func addDryRunFlag(flags *pflag.FlagSet, dryRun *bool) {
	flags.BoolVar(dryRun, "dry-run", false, "tell what would be done, and change nothing")
}

func (o *changeOptions) addFlags(flags *pflag.FlagSet) {
	addDryRunFlag(flags, &o.dryRun)
	flags.BoolVar(&o.wait, "wait", false, "wait until nothing moves any more in the group")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long --wait waits, before the command ends with exit code 1; what moves goes on to")
}

func (o *changeOptions) check(changed func(string) bool) error {
	switch {
	case o.dryRun && o.wait:
		return usagef("--dry-run and --wait: give one of them")
	case changed("timeout") && !o.wait:
		return usagef("--timeout: it is for --wait")
	case o.timeout <= 0:
		return usagef("--timeout %v: want more than 0", o.timeout)
	default:
		return nil
	}
}

// changeRing makes a change and tells what moves.
func (g *globals) changeRing(cmd *cobra.Command, o *changeOptions, request *router.ChangeRequest) error {
	if err := o.check(cmd.Flags().Changed); err != nil {
		return err
	}
	ctx := cmd.Context()
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	request.DryRun = o.dryRun
	report := &changeReport{ChangeResponse: new(router.ChangeResponse)}
	if err := g.changing(ctx, nc, "ring.change", request.Group, o.dryRun, request, report.ChangeResponse); err != nil {
		return err
	}
	if report.Partitions > 0 {
		report.Part = float64(report.Moves) / float64(report.Partitions)
	}
	if !g.JSON {
		g.printChange(request, report.ChangeResponse, report.Part)
	}
	if o.wait {
		err = g.settle(ctx, nc, report, o.timeout)
	}
	if !g.JSON {
		return err
	}
	if err != nil {
		report.Error = reportOf(err)
		err = &exitError{exitCode(err), nil} // the object says what
	}
	return errors.Join(err, g.printJSON(report))
}

// settlePause is between two looks at what still moves.
const settlePause = 100 * time.Millisecond

// settle waits until nothing moves any more. A routing service that is away for a while, because it starts again, is waited for too.
func (g *globals) settle(ctx context.Context, nc *nats.Conn, report *changeReport, timeout time.Duration) error {
	report.Settled = new(bool)
	bar := newProgress(g.errOut)
	defer bar.end()
	ticker := time.NewTicker(settlePause)
	defer ticker.Stop()
	giveUp := time.After(timeout)
	for most := 0; ; {
		var group router.Group
		err := g.router(ctx, nc, "ring.show", router.ShowRequest{Group: report.Group}, &group)
		left := group.Moving + group.Waiting
		switch {
		case err != nil && errorCode(err) != theRouter.missing:
			return err
		case err != nil:
		case group.Incarnation != report.Incarnation:
			return &codedError{"conflict", fmt.Errorf("the group %s was deleted and made again while its partitions moved", report.Group)}
		case left == 0 && group.Epoch >= report.Epoch:
			*report.Settled = true
			bar.end()
			fmt.Fprintln(g.errOut, "nothing moves any more")
			return nil
		default:
			most = max(most, left, 1)
			bar.show("partitions move", 1-float64(left)/float64(most))
			err = &codedError{"not_settled", fmt.Errorf("after %v %s still to move%s; it goes on by itself: see assent ring show %s",
				timeout, haveLeft(left), movingFrom(&group), report.Group)}
		}
		select {
		case <-ticker.C:
		case <-giveUp:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func haveLeft(partitions int) string {
	if partitions == 1 {
		return "1 partition has"
	}
	return strconv.Itoa(partitions) + " partitions have"
}

// movingFrom says which nodes have not let go of something, and of those that are down that they cannot.
func movingFrom(group *router.Group) string {
	text := ""
	for i := range group.Nodes {
		n := &group.Nodes[i]
		if n.MovingOut == 0 {
			continue
		}
		text += fmt.Sprintf(", %d from %s", n.MovingOut, n.Node)
		if n.State == router.StateDown {
			text += " (which is down: start it again, or remove it with --force)"
		}
	}
	return plain(text)
}

// printChange tells what a change does, and the plan of its moves.
func (g *globals) printChange(request *router.ChangeRequest, r *router.ChangeResponse, part float64) {
	switch {
	case r.DryRun:
		fmt.Fprintf(g.out, "dry run: %s; nothing is changed\n", plain(inWords(request, true)))
	case !r.Changed:
		fmt.Fprintf(g.out, "%s already; still epoch %d\n", plain(inWords(request, false)), r.Epoch)
	default:
		fmt.Fprintf(g.out, "%s: epoch %d\n", plain(inWords(request, false)), r.Epoch)
	}
	if r.Moves == 0 {
		return
	}
	verb := "move"
	if r.DryRun {
		verb = "would move"
	}
	fmt.Fprintf(g.out, "%d of %s (%s) %s:\n\n", r.Moves, count(r.Partitions, "partition"), percent(part), verb)
	rows := newTable(g.out, "FROM", "TO", "PARTITIONS")
	for _, flow := range r.Flows {
		rows.row(flow.From, flow.To, strconv.Itoa(flow.Partitions))
	}
	rows.flush()
}

// inWords is what a change does.
func inWords(r *router.ChangeRequest, would bool) string {
	is, has := "is", "has"
	if would {
		is, has = "would be", "would have"
	}
	switch r.Action {
	case router.ActionCreate:
		return fmt.Sprintf("group %s %s created", r.Group, is)
	case router.ActionAdd:
		return fmt.Sprintf("node %s %s in group %s", r.Node, is, r.Group)
	case router.ActionRemove:
		return fmt.Sprintf("node %s %s taken out of group %s", r.Node, is, r.Group)
	case router.ActionDrain:
		return fmt.Sprintf("node %s of group %s %s drained of its partitions", r.Node, r.Group, is)
	case router.ActionWeight:
		return fmt.Sprintf("node %s of group %s %s the weight %d", r.Node, r.Group, has, r.Weight)
	case router.ActionPin:
		return fmt.Sprintf("%s of group %s %s pinned to node %s", pinnedThing(r), r.Group, is, r.Node)
	default:
		return fmt.Sprintf("%s of group %s %s pinned to no node", pinnedThing(r), r.Group, is)
	}
}

// pinnedThing is what a pin is about.
func pinnedThing(r *router.ChangeRequest) string {
	switch {
	case r.Key != nil:
		return fmt.Sprintf("the partition of key %q", *r.Key)
	case r.Partition != nil:
		return fmt.Sprintf("partition %d", *r.Partition)
	default:
		return "everything"
	}
}
