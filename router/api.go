// SPDX-License-Identifier: Apache-2.0

package router

import "github.com/assent-tx/assent/router/ring"

// Group is a group of nodes as it is stored, and what follows from that. It is the response of the API's ring.show.
type Group struct {
	Group       string `json:"group"`
	Kind        string `json:"kind"`
	Partitions  int    `json:"partitions"`
	GraceMS     int64  `json:"grace_ms"` // 0: at once
	Batch       int    `json:"batch"`
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	// Moving is how many partitions are being handed over, Waiting how many are to be, and Unowned how many nobody owns.
	Moving  int `json:"moving"`
	Waiting int `json:"waiting"`
	Unowned int `json:"unowned"`
	// Peak is what the fullest node has, relative to its part by weight: 1 is even. 0 when nobody owns anything.
	Peak float64 `json:"peak"`
	// Nodes are in the order of their names.
	Nodes []GroupNode    `json:"nodes"`
	Pins  map[int]string `json:"pins,omitempty"`
	// Owners are by partition: places in Nodes, -1 for nobody. Targets are who is to own it; absent when that is the same.
	// Moves are what is being handed over. The API tells these only if asked for.
	Owners  []int       `json:"owners,omitempty"`
	Targets []int       `json:"targets,omitempty"`
	Moves   []GroupMove `json:"moves,omitempty"`
	// Problem says why the record cannot be read; "" when it can. Then the rest is unknown but the name.
	Problem string `json:"problem,omitempty"`
}

// GroupMove is a partition that is being handed over, since an epoch.
type GroupMove struct {
	Partition int    `json:"partition"`
	Since     uint64 `json:"since"`
}

// The states of a node.
const (
	StateUp       = "up"
	StateDown     = "down"     // its session has ended
	StateLeaving  = "leaving"  // its process ends, and hands over before
	StateRemoving = "removing" // an operator has taken it out; it hands over
	StateStatic   = "static"   // an operator has put it in, and no process acts for it
)

// GroupNode is a node of a group.
type GroupNode struct {
	Node    string `json:"node"`
	Weight  int    `json:"weight"`
	Zone    string `json:"zone,omitempty"`
	Subject string `json:"subject,omitempty"`
	Session string `json:"session,omitempty"`
	State   string `json:"state"`
	// Partitions is how many it owns, and Share the part of all, 0 to 1.
	Partitions int     `json:"partitions"`
	Share      float64 `json:"share"`
	// MovingIn and MovingOut are how many it is to get and to give, whether the handing over has begun or not.
	MovingIn  int `json:"moving_in"`
	MovingOut int `json:"moving_out"`
}

// ListResponse has all groups, without owners.
type ListResponse struct {
	Groups []Group `json:"groups"`
}

// ShowRequest asks for a group, and for each partition's owner if Owners.
type ShowRequest struct {
	Group  string `json:"group"`
	Owners bool   `json:"owners,omitempty"`
}

// The actions of a ChangeRequest.
const (
	ActionCreate = "create" // makes the group
	ActionAdd    = "add"    // puts a static node in
	ActionRemove = "remove" // takes a node out; one that is alive hands over before
	ActionDrain  = "drain"  // gives a node the weight 0, so that it hands over what it owns
	ActionWeight = "weight" // gives a node another weight
	ActionPin    = "pin"    // has a partition owned by a certain node
	ActionUnpin  = "unpin"
)

// ChangeRequest is one change of one group.
type ChangeRequest struct {
	Group  string `json:"group"`
	Action string `json:"action"`
	// Node is for every action but create and unpin.
	Node string `json:"node,omitempty"`
	// Weight is for add, where 0 means 1, and weight: 1 to 1000.
	Weight int `json:"weight,omitempty"`
	// Zone and Subject are for add. Subject is where the node takes requests; default <prefix>.node.<group>.<node>.
	Zone    string `json:"zone,omitempty"`
	Subject string `json:"subject,omitempty"`
	// Partition, or Key that lies in it, is for pin and unpin.
	Partition *int    `json:"partition,omitempty"`
	Key       *string `json:"key,omitempty"`
	// Partitions, Kind, GraceMS and Batch are for create: see Settings. A GraceMS of 0 is at once; none is the default.
	Partitions int    `json:"partitions,omitempty"`
	Kind       string `json:"kind,omitempty"`
	GraceMS    *int64 `json:"grace_ms,omitempty"`
	Batch      int    `json:"batch,omitempty"`
	// DryRun tells what would be, and changes nothing. Force does what would lose something: see ErrLastNode, ErrDownWithData.
	DryRun bool `json:"dry_run,omitempty"`
	Force  bool `json:"force,omitempty"`
}

// ChangeResponse says what a change does.
type ChangeResponse struct {
	Group  string `json:"group"`
	Action string `json:"action"`
	DryRun bool   `json:"dry_run"`
	// Changed: it was not so already.
	Changed bool `json:"changed"`
	// Incarnation and Epoch are those of the ring after it; in a dry run, as they would be.
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	// Partitions is how many there are, and Moves for how many of them it changes who is to own them; Flows are the sums of
	// these by from where to where, "" being nobody.
	Partitions int         `json:"partitions"`
	Moves      int         `json:"moves"`
	Flows      []ring.Flow `json:"flows"`
}

// DeleteRequest deletes a group; one that has nodes, or that cannot be read, if Force.
type DeleteRequest struct {
	Group  string `json:"group"`
	DryRun bool   `json:"dry_run,omitempty"`
	Force  bool   `json:"force,omitempty"`
}

// DeleteResponse says what was deleted, or would be.
type DeleteResponse struct {
	Group       string `json:"group"`
	DryRun      bool   `json:"dry_run"`
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	Nodes       int    `json:"nodes"`
	Partitions  int    `json:"partitions"`
}

// NodesRequest asks for the nodes of a group, or of all.
type NodesRequest struct {
	Group string `json:"group,omitempty"`
}

// NodesResponse has nodes, in the order of group and name.
type NodesResponse struct {
	Nodes []NodeEntry `json:"nodes"`
}

// NodeEntry is a node and the group that it is in.
type NodeEntry struct {
	Group string `json:"group"`
	GroupNode
}

// RouteRequest asks who owns a key, or keys: one of Key and Keys is given. See Service.
type RouteRequest struct {
	Group string   `json:"group"`
	Key   *string  `json:"key,omitempty"`
	Keys  []string `json:"keys,omitempty"`
	// MinEpoch is the least epoch of the ring to go by. The service waits 2 s for it.
	MinEpoch uint64 `json:"min_epoch,omitempty"`
}

// RouteResponse says who owns a key.
type RouteResponse struct {
	Group       string `json:"group"`
	Incarnation uint64 `json:"incarnation"`
	Epoch       uint64 `json:"epoch"`
	KeyRoute
}

// RoutesResponse says who owns keys, all by the same ring, in the order of the request.
type RoutesResponse struct {
	Group       string     `json:"group"`
	Incarnation uint64     `json:"incarnation"`
	Epoch       uint64     `json:"epoch"`
	Routes      []KeyRoute `json:"routes"`
}

// KeyRoute says who owns a key: see Route. In a RoutesResponse Node and Subject are "" for a key that nobody owns.
type KeyRoute struct {
	Partition int    `json:"partition"`
	Node      string `json:"node"`
	Subject   string `json:"subject"`
	Moving    bool   `json:"moving"`
}

// Problem is the body of a response that is an error. Its headers are those of NATS micro services: Nats-Service-Error, the text,
// and Nats-Service-Error-Code, a number in the manner of HTTP.
type Problem struct {
	Error string `json:"error"`
	Code  string `json:"code"`
}

// The codes of problems.
const (
	CodeInvalid         = "invalid"           // 400: see ErrInvalid
	CodeNoGroup         = "no_group"          // 404: see ErrNoGroup
	CodeNoNode          = "no_node"           // 404: see ErrNoNode
	CodeEpochNotReached = "epoch_not_reached" // 408: see ErrNotReached
	CodeExists          = "exists"            // 409: see ErrExists
	CodeNeedsForce      = "needs_force"       // 409: see ErrLastNode, ErrDownWithData and ErrNotEmpty
	CodeNoNodes         = "no_nodes"          // 409: see ErrNoNodes
	CodeConflict        = "conflict"          // 409: see ErrConflict
	CodeRecord          = "record"            // 500: see ErrRecord
	CodeNewerRecord     = "newer_record"      // 500: see ErrNewerRecord
	CodeUnknown         = "unknown"           // 500: see ErrUnknown
	CodeFailed          = "failed"            // 500: anything else; the text says what
	CodeBusy            = "busy"              // 503: too many wait already; try again
)
