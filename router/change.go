// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
	"github.com/assent-tx/assent/router/ring"
)

// changeAttempts is how often a change is tried while others change the group at the same time. Each of them got through, so
// this many are a storm.
const changeAttempts = 100

// Change makes one change. The error is ErrNoGroup, ErrNoNode or ErrExists for what is not or already there, ErrInvalid for what
// makes no sense, ErrLastNode or ErrDownWithData for what loses something and is not forced, ErrConflict when others were
// quicker each time, ErrUnknown when no answer came: then the change may have been made; to make it again is harmless.
func (g *Groups) Change(ctx context.Context, request ChangeRequest) (*ChangeResponse, error) {
	if request.Action == ActionCreate {
		return g.create(ctx, &request)
	}
	if err := request.check(); err != nil {
		return nil, err
	}
	for range changeAttempts {
		before, err := g.find(ctx, request.Group)
		if err != nil {
			return nil, err
		}
		next, err := before.record.Apply(request.change(before.record))
		if err != nil {
			return nil, fmt.Errorf("router: %w", err)
		}
		response := request.response(before.record, next)
		if request.DryRun || !response.Changed {
			return response, nil
		}
		if _, err = g.s.put(ctx, before, next); err == nil {
			return response, nil
		}
		if !errors.Is(err, errConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("router: change group %s: %w: others changed it %d times meanwhile; try again", request.Group, ErrConflict, changeAttempts)
}

// check refuses fields that are not for the action, or missing.
func (r *ChangeRequest) check() error {
	if err := checkName("group", r.Group); err != nil {
		return err
	}
	pins := r.Action == ActionPin || r.Action == ActionUnpin
	var fault string
	switch {
	case pins && (r.Partition == nil) == (r.Key == nil):
		fault = "want a partition, or a key that lies in it"
	case !pins && (r.Partition != nil || r.Key != nil):
		fault = "partition and key are for pin and unpin"
	case r.Action != ActionAdd && (r.Zone != "" || r.Subject != ""):
		fault = "zone and subject are for add"
	case r.Action != ActionAdd && r.Action != ActionWeight && r.Weight != 0:
		fault = "weight is for add and weight"
	case r.Action == ActionUnpin && r.Node != "":
		fault = "unpin takes no node"
	case r.Partitions != 0 || r.Kind != "" || r.GraceMS != nil || r.Batch != 0:
		fault = "partitions, kind, grace_ms and batch are for create, and never change afterwards"
	default:
		return nil
	}
	return fmt.Errorf("router: %w: %s: %s", ErrInvalid, r.Action, fault)
}

// change is what a request means for a record.
func (r *ChangeRequest) change(record *handoff.Record) *handoff.Change {
	c := &handoff.Change{
		Action: handoff.Action(r.Action), Node: r.Node, Weight: r.Weight, Zone: r.Zone, Subject: r.Subject, Force: r.Force,
	}
	switch {
	case r.Key != nil:
		c.Partition = record.Ring().Partition(*r.Key)
	case r.Partition != nil:
		c.Partition = *r.Partition
	}
	return c
}

func (r *ChangeRequest) response(before, after *handoff.Record) *ChangeResponse {
	response := &ChangeResponse{
		Group: r.Group, Action: r.Action, DryRun: r.DryRun, Changed: true, Incarnation: after.Incarnation, Epoch: after.Epoch,
		Partitions: after.Partitions, Flows: []ring.Flow{},
	}
	if before != nil {
		response.Changed = after.Epoch != before.Epoch
		plan := ring.Diff(before.TargetRing(), after.TargetRing())
		response.Moves, response.Flows = len(plan.Moves), plan.Flows()
	}
	return response
}

// create is the action of that name.
func (g *Groups) create(ctx context.Context, r *ChangeRequest) (*ChangeResponse, error) {
	if r.Node != "" || r.Weight != 0 || r.Zone != "" || r.Subject != "" || r.Partition != nil || r.Key != nil {
		return nil, fmt.Errorf("router: %w: create makes a group without nodes and takes only partitions, kind, grace_ms and batch", ErrInvalid)
	}
	settings := handoff.Settings{Partitions: r.Partitions, Kind: handoff.Kind(r.Kind), Batch: r.Batch}
	if r.GraceMS != nil {
		settings.GraceMS = *r.GraceMS
		if settings.GraceMS == 0 {
			settings.GraceMS = -1 // at once; 0 is the default's there
		}
	}
	if r.DryRun {
		_, record, err := g.s.prepare(ctx, r.Group, settings)
		if err != nil {
			return nil, err
		}
		return r.response(nil, record), nil
	}
	v, err := g.s.create(ctx, r.Group, settings)
	if err != nil {
		return nil, err
	}
	return r.response(nil, v.record), nil
}

// create makes a group. The error is ErrExists when it is there, also when somebody else is making it at this moment.
func (s *store) create(ctx context.Context, group string, settings handoff.Settings) (version, error) {
	for {
		before, record, err := s.prepare(ctx, group, settings)
		if err != nil {
			return version{}, err
		}
		after, err := s.put(ctx, before, record)
		if err == nil && after.record == nil { // deleted again meanwhile
			return version{}, noGroup(group)
		}
		if !errors.Is(err, errConflict) {
			return after, err
		}
	}
}

// prepare gives the first record of a group that there is not, and what is there in its place. It is of a greater incarnation
// than any before, whatever the clocks say.
func (s *store) prepare(ctx context.Context, group string, settings handoff.Settings) (version, *handoff.Record, error) {
	before, err := s.find(ctx, group)
	if err == nil {
		return before, nil, fmt.Errorf("router: group %s: %w: with %d partitions, of kind %s", group, ErrExists, before.record.Partitions, before.record.Kind)
	}
	if !errors.Is(err, ErrNoGroup) {
		return before, nil, err
	}
	incarnation := max(uint64(time.Now().UnixMicro()), before.last.Incarnation+1) //nolint:gosec // a clock before 1970 is refused below
	record, err := handoff.New(group, incarnation, settings)
	if err != nil {
		return before, nil, fmt.Errorf("router: %w", err)
	}
	return before, record, nil
}

// Delete deletes a group: nobody owns anything of it then. Its nodes let go of everything; those that run make it anew, as
// they were told to. The error is ErrNoGroup, or ErrNotEmpty when it has nodes and that is not forced; a record that cannot be
// read takes force, too. Otherwise it is as Change's.
func (g *Groups) Delete(ctx context.Context, request DeleteRequest) (*DeleteResponse, error) {
	for range changeAttempts {
		before, err := g.find(ctx, request.Group)
		unreadable := errors.Is(err, ErrRecord) || errors.Is(err, ErrNewerRecord)
		if err != nil && (!unreadable || !request.Force) {
			return nil, err
		}
		response := &DeleteResponse{Group: request.Group, DryRun: request.DryRun}
		if r := before.record; r != nil {
			response.Incarnation, response.Epoch, response.Nodes, response.Partitions = r.Incarnation, r.Epoch, len(r.Nodes), r.Partitions
			if len(r.Nodes) > 0 && !request.Force {
				return nil, fmt.Errorf("router: group %s: %w: %d; remove them first, or use force", request.Group, ErrNotEmpty, len(r.Nodes))
			}
		}
		if request.DryRun {
			return response, nil
		}
		if err = g.s.remove(ctx, request.Group, before); err == nil {
			return response, nil
		}
		if !errors.Is(err, errConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("router: delete group %s: %w: others changed it %d times meanwhile; try again", request.Group, ErrConflict, changeAttempts)
}
