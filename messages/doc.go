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
// The package performs no I/O and imports the standard library and google/uuid alone.
package messages
