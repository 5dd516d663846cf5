// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
)

// Groups makes, changes, shows and deletes groups, in JetStream itself: no routing service needs to run. It is what an
// operator's program uses, and is permitted what that takes. It is safe for concurrent use.
type Groups struct{ s *store }

// Open opens the rings, and makes their bucket if need be. The connection stays the caller's. The error is ErrInvalid for a cfg
// out of its bounds, ErrSettings for a bucket that somebody changed.
func Open(ctx context.Context, nc *nats.Conn, cfg Config) (*Groups, error) {
	s, err := newStore(nc, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return &Groups{s}, nil
}

// Create makes a group without nodes. The error is ErrExists when there is one of that name, ErrInvalid for a name or
// settings out of their bounds, ErrUnknown when no answer came.
func (g *Groups) Create(ctx context.Context, group string, settings Settings) (*Group, error) {
	v, err := g.s.create(ctx, group, settings.internal())
	if err != nil {
		return nil, err
	}
	return g.s.names.describe(v.record), nil
}

// Show gives a group. The error is ErrNoGroup, ErrRecord or ErrNewerRecord.
func (g *Groups) Show(ctx context.Context, group string) (*Group, error) {
	v, err := g.find(ctx, group)
	if err != nil {
		return nil, err
	}
	return g.s.names.describe(v.record), nil
}

// List gives all groups, by name. One whose record cannot be read has a Problem.
func (g *Groups) List(ctx context.Context) ([]Group, error) {
	items, err := g.s.list(ctx, g.s.names.recordSubject("*"))
	if err != nil {
		return nil, fmt.Errorf("router: list the groups: %w", err)
	}
	groups := []Group{}
	for _, it := range items {
		name, _, ok := g.s.names.parseKey(it.subject)
		v, err := readRecord(name, it.raw)
		switch {
		case !ok, errors.Is(err, ErrNoGroup):
		case err != nil:
			groups = append(groups, Group{Group: name, Nodes: []GroupNode{}, Problem: err.Error()})
		default:
			groups = append(groups, *g.s.names.describe(v.record))
		}
	}
	slices.SortFunc(groups, func(a, b Group) int { return strings.Compare(a.Group, b.Group) })
	return groups, nil
}

// Nodes gives the nodes of a group, or of all groups that can be read if it is "". The error is as Show's.
func (g *Groups) Nodes(ctx context.Context, group string) ([]NodeEntry, error) {
	var groups []Group
	if group == "" {
		all, err := g.List(ctx)
		if err != nil {
			return nil, err
		}
		groups = all
	} else {
		one, err := g.Show(ctx, group)
		if err != nil {
			return nil, err
		}
		groups = []Group{*one}
	}
	nodes := []NodeEntry{}
	for i := range groups {
		for _, n := range groups[i].Nodes {
			nodes = append(nodes, NodeEntry{groups[i].Group, n})
		}
	}
	return nodes, nil
}

// find reads a group's record, and says which groups there are when there is none of that name.
func (g *Groups) find(ctx context.Context, group string) (version, error) {
	v, err := g.s.find(ctx, group)
	if !errors.Is(err, ErrNoGroup) {
		return v, err
	}
	groups, listErr := g.List(ctx)
	if listErr != nil {
		return v, err // the hint is not worth another error
	}
	return v, fmt.Errorf("%w: %s", err, namesOf(groups))
}

// namesOf lists groups for people; a few of them when they are many.
func namesOf(groups []Group) string {
	const few = 16
	if len(groups) == 0 {
		return "there is none yet"
	}
	names := make([]string, 0, few)
	for i := range groups[:min(few, len(groups))] {
		names = append(names, groups[i].Group)
	}
	text := "there is " + strings.Join(names, ", ")
	if more := len(groups) - few; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// find reads a group's record, patiently.
func (s *store) find(ctx context.Context, group string) (v version, err error) {
	if err := checkName("group", group); err != nil {
		return v, err
	}
	err = persist(ctx, func(ctx context.Context) (err error) {
		v, err = s.record(ctx, group)
		return err
	})
	return v, err
}
