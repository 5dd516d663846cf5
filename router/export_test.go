// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"time"
)

// Stays has a test say how long the node stays when it has handed everything over, in place of the time that it is given. Call it before Run.
func (n *Node) Stays(stay func(ctx context.Context, d time.Duration) bool) { n.stay = stay }
