// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"math/rand/v2"
)

// scene is who holds the accounts, and what happens to them meanwhile.
type scene interface {
	// cast makes the processes that hold accounts to begin with, and whatever they need before they start.
	cast(c *cluster) error
	// set opens the accounts, unless cast has, when all processes take part.
	set(ctx context.Context, c *cluster) error
	// places are where the accounts are. Each begins with openingBalance.
	places() []place
	// pair draws between which two of them a transfer is.
	pair(random *rand.Rand) (from, to place)
	// script is what happens.
	script(c *cluster) *script
	// witness asks what the stores do not tell, before the processes are stopped.
	witness(ctx context.Context, c *cluster, e *evidence) error
	// close ends what the scene has of its own.
	close()
}

// newScene is the scene of a configuration.
func newScene(cfg *Config) scene {
	if cfg.Nodes > 0 {
		return &nodes{count: cfg.Nodes, rebalance: cfg.Rebalance, faults: !cfg.NoFaults, prefix: cfg.Prefix}
	}
	return &twoBanks{faults: !cfg.NoFaults}
}
