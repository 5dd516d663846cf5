// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/router"
)

// routeOptions are the flags of `assent route`.
type routeOptions struct{ minEpoch uint64 }

// routeReport is the JSON object of `assent route`.
type routeReport struct {
	Group  string     `json:"group"`
	Routes []keyRoute `json:"routes"`
}

// keyRoute is where a key is, and by which ring.
type keyRoute struct {
	Key string `json:"key"`
	router.KeyRoute
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
}

func newRouteCommand(g *globals) *cobra.Command {
	o := &routeOptions{}
	cmd := &cobra.Command{
		Use:   "route GROUP KEY…",
		Short: "Tell which node owns a key",
		Long: `Tell which node of a group owns each key, and where it takes requests. With - as the only KEY the keys are read from standard input, a line each; empty
lines are none.

The answer is that of one epoch of the group's ring, and may be old when it is read: a node that does not own the key any more says so. With
--min-epoch the service waits up to two seconds until its ring is that new.`,
		Example: `  assent route orders customer/4711 customer/4712
  assent route orders customer/4711 --min-epoch 17 --json
  cut -f 1 customers.tsv | assent route orders -`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.route(cmd.Context(), o, args[0], args[1:])
		},
	}
	cmd.Flags().Uint64Var(&o.minEpoch, "min-epoch", 0, "wait for a ring of at least this `epoch`")
	return cmd
}

func (g *globals) route(ctx context.Context, o *routeOptions, group string, keys []string) (err error) {
	if len(keys) == 1 && keys[0] == "-" {
		if keys, err = readKeys(g.in); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if err := checkRouteKey(key); err != nil {
			return err
		}
	}
	nc, err := g.connect()
	if err != nil {
		return err
	}
	defer nc.Close()
	report := &routeReport{Group: group, Routes: make([]keyRoute, 0, len(keys))}
	for len(keys) > 0 {
		n := routeBatch(keys)
		routes, err := g.routeKeys(ctx, nc, o, group, keys[:n])
		if err != nil {
			return err
		}
		report.Routes, keys = append(report.Routes, routes...), keys[n:]
	}
	return g.tellRoutes(report)
}

// tellRoutes prints routes, and is an error when one leads nowhere.
func (g *globals) tellRoutes(report *routeReport) error {
	if !g.JSON {
		g.printRoutes(report)
	} else if err := g.printJSON(report); err != nil {
		return err
	}
	nobodys := 0
	for i := range report.Routes {
		if report.Routes[i].Node == "" {
			nobodys++
		}
	}
	if nobodys == 0 {
		return nil
	}
	g.complain(fmt.Errorf("nobody owns %d of the %s: see assent ring show %s", nobodys, count(len(report.Routes), "key"), report.Group))
	return &exitError{exitFailure, nil}
}

// checkRouteKey refuses what no transaction or request could have as a key.
func checkRouteKey(key string) error {
	switch {
	case key == "":
		return usageError(&codedError{"invalid", errors.New("a key is empty: want at least one byte")})
	case len(key) > messages.MaxRouteKey:
		return usageError(&codedError{"invalid", fmt.Errorf("the key %.40q… has %d bytes; at most %d", key, len(key), messages.MaxRouteKey)})
	case !utf8.ValidString(key):
		return usageError(&codedError{"invalid", fmt.Errorf("the key %.80q is not UTF-8", key)})
	default:
		return nil
	}
}

// readKeys reads keys, a line each.
func readKeys(in io.Reader) (keys []string, err error) {
	lines := bufio.NewReader(in)
	for err == nil {
		var line []byte
		line, err = lines.ReadBytes('\n')
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		if len(line) > 0 {
			keys = append(keys, string(line))
		}
	}
	switch {
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("standard input: %w", err)
	case len(keys) == 0:
		return nil, usagef("standard input has no keys: want a line each")
	default:
		return keys, nil
	}
}

// The bounds of what one request asks for: request and answer stay below a server's max_payload, 1 MiB, also if every byte of a key needs
// six in JSON.
const (
	maxBatchKeys  = 1000
	maxBatchBytes = 128 << 10
)

// routeBatch is how many of some keys one request asks for.
func routeBatch(keys []string) int {
	size := 0
	for n, key := range keys {
		if size += len(key); n == maxBatchKeys || n > 0 && size > maxBatchBytes {
			return n
		}
	}
	return len(keys)
}

// routeKeys asks for a batch of keys.
func (g *globals) routeKeys(ctx context.Context, nc *nats.Conn, o *routeOptions, group string, keys []string) ([]keyRoute, error) {
	request := router.RouteRequest{Group: group, Keys: keys, MinEpoch: o.minEpoch}
	var response router.RoutesResponse
	if err := g.routing(ctx, nc, g.Prefix+".route", request, &response); err != nil {
		return nil, err
	}
	if len(response.Routes) != len(keys) {
		return nil, fmt.Errorf("the routing service's answer has %d routes for %d keys: is it of another version?", len(response.Routes), len(keys))
	}
	routes := make([]keyRoute, len(keys))
	for i, key := range keys {
		routes[i] = keyRoute{key, response.Routes[i], response.Incarnation, response.Epoch}
	}
	return routes, nil
}

func (g *globals) printRoutes(report *routeReport) {
	rows := newTable(g.out, "KEY", "PARTITION", "NODE", "SUBJECT", "EPOCH", "MOVING")
	for i := range report.Routes {
		r := &report.Routes[i]
		moving := "no"
		if r.Moving {
			moving = "yes"
		}
		rows.row(r.Key, strconv.Itoa(r.Partition), r.Node, r.Subject, strconv.FormatUint(r.Epoch, 10), moving)
	}
	rows.flush()
}
