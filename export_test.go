// SPDX-License-Identifier: Apache-2.0

package assent

// Resolver lets a test stand in for the router of a client.
type Resolver = resolver

// StandIn gives the client a router. It must not have one.
func (c *Client) StandIn(r Resolver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring != nil {
		panic("assent: the client has a router already")
	}
	c.ring = r
}
