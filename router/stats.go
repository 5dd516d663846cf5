// SPDX-License-Identifier: Apache-2.0

package router

// Stats is what following rings has come to, since the client was made.
type Stats struct {
	// Groups is how many groups are followed.
	Groups int `json:"groups"`
	// Reads is how often a ring was read, and Failed how often no answer came.
	Reads  uint64 `json:"reads"`
	Failed uint64 `json:"failed"`
	// Stale is how often a server gave an older ring than the one that is known; it was ignored. Now and then that is to be expected after a server
	// of several was lost; often it is a sign that the bucket was restored from a backup.
	Stale uint64 `json:"stale"`
	// Unreadable is how often what was stored could not be read: see ErrRecord and ErrNewerRecord. It needs an operator.
	Unreadable uint64 `json:"unreadable"`
}

// Stats gives the sums over all groups that are followed.
func (c *Client) Stats() Stats {
	groups := *c.groups.Load()
	stats := Stats{Groups: len(groups)}
	for _, g := range groups {
		stats.Reads += g.counts.reads.Load()
		stats.Failed += g.counts.failed.Load()
		stats.Stale += g.counts.stale.Load()
		stats.Unreadable += g.counts.unreadable.Load()
	}
	return stats
}

// Stats gives those of the rings that the service answers by.
func (s *Service) Stats() Stats { return s.client.Stats() }
