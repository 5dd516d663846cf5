// SPDX-License-Identifier: Apache-2.0

package protocol

// A leader takes a transaction that it does not know only while its id is young: from AcceptAge before to AcceptAhead
// after the leader's time, which is the later of its clock and the log time. It gives it the expiry max(that time, the
// id's time) + timeout. So all prepares of one submission, whichever leaders wrote them, expire within AcceptAge +
// AcceptAhead of each other, and a transaction may be forgotten once log time has passed its expiry by that much: whatever
// still arrives for it is dead, and no leader takes its id again. Both are in milliseconds.
const (
	AcceptAge   = 60_000
	AcceptAhead = 10_000
)
