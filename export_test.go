// SPDX-License-Identifier: Apache-2.0

package assent

// Router and Route let a test stand in for the router of a client.
type (
	Router = router
	Route  = route
)

// NewRoute is where a key is.
func NewRoute(node string, incarnation, epoch uint64, moving bool) Route {
	return route{node, incarnation, epoch, moving}
}

// StandIn gives the client a router. It must not have one.
func (c *Client) StandIn(r Router) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ring != nil {
		panic("assent: the client has a router already")
	}
	c.ring = r
}
