// SPDX-License-Identifier: Apache-2.0

package router

import (
	"time"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// Kind says what becomes of a group's partitions when nodes come, go and are lost.
type Kind string

// The kinds of groups.
const (
	// Instant: an owner changes with the epoch and nothing is handed over, so that for a moment two nodes may act for one
	// partition. Of a node that is lost others take over after the grace. For caches, and for sharing out work.
	Instant Kind = "instant"
	// HandOff: a partition's new owner acts only after the one before has let go of it, or its session has ended. Of a node that
	// is lost others take over after the grace.
	HandOff Kind = "handoff"
	// Data is as HandOff, but a node that is lost keeps its partitions, because what belongs to them is on its disk. It comes
	// back, or an operator takes it out.
	Data Kind = "data"
)

// Settings are what a group is made with. They never change. The zero Settings are good for a group of up to some
// hundred nodes that keep data.
type Settings struct {
	// Partitions is how many partitions there are, 1 to 65,536; default 4096. A hundred times the nodes that there will ever be
	// share evenly.
	Partitions int
	// Kind is the kind; default Data.
	Kind Kind
	// Grace is how long a session must have ended before others take over from its node, in kinds Instant and HandOff: up to
	// 24 h, in whole milliseconds; default 5 s; negative is at once.
	Grace time.Duration
	// Batch is how many partitions are on the move at a time, 1 to 1024; default 128.
	Batch int
}

func (s Settings) internal() handoff.Settings {
	grace := s.Grace.Milliseconds()
	if s.Grace < 0 {
		grace = -1
	} else if s.Grace > 0 {
		grace = max(grace, 1)
	}
	return handoff.Settings{Partitions: s.Partitions, Kind: handoff.Kind(s.Kind), GraceMS: grace, Batch: s.Batch}
}
