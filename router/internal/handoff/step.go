// SPDX-License-Identifier: Apache-2.0

package handoff

// StepKind is what a Step asks of the owner of a Holder.
type StepKind uint8

// The steps.
const (
	// Open: the node acts for the partition: work may begin.
	Open StepKind = iota + 1
	// Shut: no work of the partition may begin any more. Tell Drained when none is in hand: at once, if none is. It may come for a
	// partition that was not open, to ask that.
	Shut
	// AskAcquire: call the hook Acquire, and tell Done.
	AskAcquire
	// AskRelease: call the hook Release, and tell Done.
	AskRelease
	// AskDrop: what the partition has left here is of no use any more: call the hook Drop, if there is one, and tell Done.
	AskDrop
	// Announce: store the node's presence, with what Holder.Presence gives at that time. If it is not urgent, it may wait a little for
	// what Holder.Releasing tells of, so that one presence has it all.
	Announce
)

// String is the step's name.
func (k StepKind) String() string {
	names := [...]string{"none", "open", "shut", "acquire", "release", "drop", "announce"}
	if int(k) >= len(names) {
		return "unknown"
	}
	return names[k]
}

// Step is what a Holder wants done. It performs nothing itself.
type Step struct {
	Kind StepKind
	// Partition is for every kind but Announce.
	Partition int
	// Epoch is that of the newest record known, by which the step is right.
	Epoch uint64
	// Since names the move of an AskRelease or AskDrop. Of an AskAcquire it is the move that brought the partition, if that was seen, or 0.
	Since uint64
	// From and To are the nodes that it goes from and to; empty when that is nobody, or is not known.
	From, To string
	// Urgent is for an Announce of more than moves that were released.
	Urgent bool
}
