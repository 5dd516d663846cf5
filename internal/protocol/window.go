// SPDX-License-Identifier: Apache-2.0

package protocol

// A leader takes a transaction that it does not know only while its id is young: from AcceptAge before to AcceptAhead
// after the leader's time, which is the latest of its clock, the server's and the log time. It gives it the expiry max(that
// time, the id's time) + timeout. So a leader that lags, and knows neither what was forgotten nor the floor, does not take
// an old id for a new one; the floor (Checkpoint) keeps out the others. Both are in milliseconds.
const (
	AcceptAge   = 60_000
	AcceptAhead = 10_000
)
