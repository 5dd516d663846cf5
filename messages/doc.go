// SPDX-License-Identifier: Apache-2.0

// Package messages is what Assent says on the wire: ids, records, subjects, the NDJSON codec and the limits.
//
// A NATS message carries 1..N records of the kind that its subject names, one JSON object a line. The writer's
// identity is the subject's last token, never a field, so that NATS permissions make it unforgeable.
//
// Decoding is strict: a field that is unknown, given twice, of the wrong type or over its limit, invalid UTF-8
// and bytes after the object make a record malformed. Every reader of the log uses this package's decoders or
// must match them, because all readers have to ignore exactly the same records.
//
// What else implementations in other languages must match; testdata/vectors.json has a case of each:
//   - Names of fields, ids, votes, outcomes and participants' names are written without escapes, and fields by exact case.
//   - A route has all of its fields, a key of at least one byte, and numbers from 1; wrong_owner is from 1, and stands in a vote
//     only with a no, in an answer only with the outcome aborted; so does a conflict that is true.
//   - Keys and keys of locks have at least one byte. No key of an operation is both shared and not; no lock is named twice, and
//     a lock has both of its fields.
//   - null stands for no field but a payload. Numbers are whole, from 0 to 2^53-1, without sign, fraction or exponent.
//   - In reasons, keys and traces an escaped lone surrogate is read as U+FFFD. Limits count bytes of UTF-8 after unescaping.
//   - A record that is faulty, but is a JSON object with one "v" that is a larger whole number than Version, is not
//     malformed but of a newer version, wherever "v" stands in it and whatever else is wrong with it.
//   - Fields given twice inside a payload are the participant's business.
//
// The package performs no I/O and imports the standard library and google/uuid alone.
package messages
