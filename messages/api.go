// SPDX-License-Identifier: Apache-2.0

package messages

import "time"

// RegisterRequest is what a participant sends to the API subject "register" when it starts, and whenever it has
// reconnected; JSON.
type RegisterRequest struct {
	// Name is the participant's.
	Name string `json:"name"`
	// Instance tells its instances apart, for people.
	Instance string `json:"instance"`
}

// RegisterResponse tells a participant where its prepares are; JSON.
type RegisterResponse struct {
	// Shards has each shard's log, by shard number.
	Shards []ShardInfo `json:"shards"`
}

// ShardInfo is one shard's log, as a participant needs to know it.
type ShardInfo struct {
	Stream string `json:"stream"`
	// Consumer is the durable consumer of the participant's prepares.
	Consumer string `json:"consumer"`
	// Incarnation changes when the stream is made anew, and LastSequence only grows while it is not: a participant that
	// remembers more than this, and hears so for seconds, has voted into a log that lost data.
	Incarnation  string `json:"incarnation"`
	LastSequence uint64 `json:"last_sequence"`
	// Voted is the log's time of the participant's newest message of votes; zero when there is none. Committed is a
	// transaction that this message says yes to and that was committed, the newest; zero when there is none. By that of the shard
	// with the newest Voted a store is recognised that has lost data.
	Voted     time.Time `json:"voted,omitzero"`
	Committed ID        `json:"committed,omitzero"`
}

// InstanceService is the NATS micro service name of every participant's instances, and InstanceKey the metadata key that
// names the participant.
const (
	InstanceService = "assent-participant"
	InstanceKey     = "participant"
)
