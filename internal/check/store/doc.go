// SPDX-License-Identifier: Apache-2.0

// Package store is a participant whose operations read: lists to which transactions append, and accounts between which they move
// money, in a bbolt file. `assent check` runs several of them, and looks for anomalies in what was read.
//
// # What a read is
//
// A transaction has no results: what an operation reads is told beside it, to a subject that the operation names (Operation.Report),
// when the branch is prepared. It counts only if the transaction commits. Whether it is then the value at the transaction's place in
// one order of all is a question of keys:
//
//   - With keys (shared for a read, exclusive for a change) none but this transaction has anything prepared on them while its branch
//     is: whoever changed them before has been applied here, and whoever changes them later is prepared after this one's outcome was
//     applied here. So what is committed at prepare is all that comes before the transaction, and nothing else.
//   - Without keys what others have prepared and not committed is not seen, and may be committed in any order afterwards. That
//     is what the anomalies come from.
//
// In both cases a transaction's own operations before the read are seen.
//
// # What a crash leaves behind
//
// A read is part of the prepared branch, and told only when that is in the file:
//
//	before the commit of the file   nothing was told. The prepare comes again, and may read something else.
//	after it, before telling        the prepare comes again, and what was read then is told.
//	after the outcome               nothing is told any more: who asked has heard, or does without.
//
// So nobody ever hears two values for one read. A branch that was to tell something is always prepared, and never read-only: the vote
// has to come from who read what was told.
package store
