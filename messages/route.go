// SPDX-License-Identifier: Apache-2.0

package messages

// Route says how a client found the participant of an operation: by a key, in a group of nodes, by the ring that it knew.
// It is for the participant, which holds it against its own ring; a coordinator passes it on and decides nothing by it.
//
//	{"group":"accounts","key":"account/7","incarnation":1763856000000000,"epoch":12}
type Route struct {
	// Group is the group's name, one as a participant may have.
	Group string
	// Key is what was routed, 1 to MaxRouteKey bytes.
	Key string
	// Incarnation and Epoch are the group's and the ring's, from 1: the ring by which the client routed.
	Incarnation, Epoch uint64
}

const (
	bitRouteGroup = iota
	bitRouteKey
	bitRouteIncarnation
	bitRouteEpoch
)

// route reads the route of an operation, all of whose fields are required.
func (d *Decoder) route(s *scanner) *Route {
	route := new(Route)
	operation, before := s.seen, s.inside
	s.seen, s.inside = 0, "route"
	for first := true; s.list('{', '}', first); first = false {
		switch key := s.key(); string(key) {
		case "group":
			s.onceIn("route.group", bitRouteGroup)
			route.Group = d.name(s)
		case "key":
			s.onceIn("route.key", bitRouteKey)
			route.Key = s.someText(MaxRouteKey)
		case "incarnation":
			s.onceIn("route.incarnation", bitRouteIncarnation)
			route.Incarnation = s.positive()
		case "epoch":
			s.onceIn("route.epoch", bitRouteEpoch)
			route.Epoch = s.positive()
		default:
			s.unknown(key)
		}
	}
	s.requireIn("route.group", bitRouteGroup)
	s.requireIn("route.key", bitRouteKey)
	s.requireIn("route.incarnation", bitRouteIncarnation)
	s.requireIn("route.epoch", bitRouteEpoch)
	s.seen, s.inside = operation, before
	return route
}

// requireIn is require for a field inside the element of a list.
func (s *scanner) requireIn(name string, bit uint32) {
	if s.fault == nil && s.seen&(1<<bit) == 0 {
		s.sub = name
		s.fail("missing")
	}
}

// appendRoute appends the route's JSON.
func appendRoute(b []byte, r *Route) []byte {
	b = append(append(append(b, `{"group":"`...), r.Group...), '"')
	b = append(appendEscaped(append(b, `,"key":"`...), r.Key), '"')
	b = appendNumber(b, `,"incarnation":`, int64(r.Incarnation))
	b = appendNumber(b, `,"epoch":`, int64(r.Epoch))
	return append(b, '}')
}
