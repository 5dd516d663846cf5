// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/router/internal/handoff"
)

// What a caller branches on, with errors.Is.
var (
	// ErrNoGroup: there is no such group, or not any more.
	ErrNoGroup = errors.New("no such group")
	// ErrNoNode: there is no such node in the group.
	ErrNoNode = handoff.ErrNoNode
	// ErrExists: there is a group, or a node, of that name already.
	ErrExists = handoff.ErrExists
	// ErrLastNode: the change takes away the last node that could own anything. It is made if it is forced.
	ErrLastNode = handoff.ErrLastNode
	// ErrDownWithData: the change gives up the data of a node that is down. It is made if it is forced.
	ErrDownWithData = handoff.ErrDownWithData
	// ErrNotEmpty: the group that is to be deleted has nodes. It is deleted if that is forced.
	ErrNotEmpty = errors.New("it has nodes")
	// ErrNoNodes: nobody owns the key's partition: the group has no nodes with a weight, or its owner was removed and no other
	// has taken over yet. Try again when the ring has changed (Client.After).
	ErrNoNodes = errors.New("no node owns it")
	// ErrNotReached: the ring did not become as new as was asked for, in the time that there was.
	ErrNotReached = errors.New("the ring has not reached that epoch")
	// ErrWrongOwner: a node was asked for a key that it does not own. The error is a *WrongOwnerError that says who does, as
	// far as the node knows.
	ErrWrongOwner = errors.New("wrong owner")
	// ErrNotReady: a node owns the key and cannot act for it yet, or not just now. Nothing was done; try again.
	ErrNotReady = errors.New("the node is not ready")
	// ErrUnknown: something was sent and no answer came, so that nobody here can say whether it was done.
	ErrUnknown = errors.New("outcome unknown")
	// ErrConflict: others changed the group at the same time, again and again. Nothing was done; try again.
	ErrConflict = errors.New("conflict")
	// ErrRecord: a group's record cannot be read: somebody else wrote it. The last good one stays in force where it is known.
	ErrRecord = errors.New("a record that cannot be read")
	// ErrNewerRecord: a group's record was written by a newer version of this package, which alone can read it. The
	// last one that could be read stays in force where it is known.
	ErrNewerRecord = errors.New("a record of a newer version")
	// ErrInvalid: an argument is out of its bounds; the message names it.
	ErrInvalid = handoff.ErrInvalid
	// ErrSettings: the bucket of the rings has settings with which they are not safe. The message names each and what to do.
	ErrSettings = errors.New("unsafe settings")
	// ErrNotDrained: a node has ended before everything was over that it had in hand, or was to hand over. What it owns is
	// taken over as from a node that died.
	ErrNotDrained = errors.New("not drained")
	// ErrClosed: it was closed by its owner.
	ErrClosed = errors.New("closed")
)

// WrongOwnerError says that a node does not own a key. It is an ErrWrongOwner.
type WrongOwnerError struct {
	// Group and Key are what was asked for, Node whoever was asked.
	Group, Key, Node string
	// Owner is the node that owns the key by the ring of the node that was asked; "" when nobody does, or when it did not say.
	// Moving: Node itself owns it still, and is handing it over to Owner.
	Owner  string
	Moving bool
	// Incarnation and Epoch are those of that ring.
	Incarnation, Epoch uint64
}

// Error implements error.
func (e *WrongOwnerError) Error() string {
	owner := e.Owner
	if owner == "" {
		owner = "another node or nobody"
	}
	if e.Moving {
		return fmt.Sprintf("router: the node %s of group %s is handing the key %.80q over to %s, in epoch %d", e.Node, e.Group, e.Key, owner, e.Epoch)
	}
	return fmt.Sprintf("router: the node %s of group %s does not own the key %.80q: %s does, in epoch %d", e.Node, e.Group, e.Key, owner, e.Epoch)
}

// Is makes it an ErrWrongOwner.
func (e *WrongOwnerError) Is(target error) bool { return target == ErrWrongOwner }
