// SPDX-License-Identifier: Apache-2.0

// Package groupcommit sends many records in few messages, without a timer.
//
// JetStream with sync_interval always pays one fsync a message, so what makes a log fast is to put the records of many
// transactions into one message. A Batcher clocks itself: idle, a record leaves at once, alone; busy, whatever gathers
// while a message is under way leaves in the next one. Load makes messages larger, never later.
//
//	Append ──▶ message being filled ──▶ queue of full messages ──▶ one under way ──▶ settled(tags)
//
// Each subject is a lane of its own with at most one message under way, so that records of one subject keep their order
// even when a publish is repeated. JetStream is the sender for the log: it repeats a publish whose acknowledgement never
// came, under the same message id, until it is known to be stored or refused.
package groupcommit
