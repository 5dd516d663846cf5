// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"strconv"
	"strings"
)

// DefaultPrefix is the first token of every subject when none is configured.
const DefaultPrefix = "assent"

// Kind is what a log message's records are.
type Kind uint8

// The kinds of log message, named as in their subjects.
const (
	KindUnknown Kind = iota
	KindPrepare
	KindVote
	KindAbort
	KindFinished
)

// String is the subject token of the kind.
func (k Kind) String() string {
	switch k {
	case KindPrepare:
		return "prepare"
	case KindVote:
		return "vote"
	case KindAbort:
		return "abort"
	case KindFinished:
		return "finished"
	default:
		return "unknown"
	}
}

// Subjects names the subjects under one prefix. The zero value has DefaultPrefix.
type Subjects struct {
	// Prefix is one or more subject tokens joined by dots; "" means DefaultPrefix.
	Prefix string
}

func (s Subjects) prefix() string {
	if s.Prefix == "" {
		return DefaultPrefix
	}
	return s.Prefix
}

// ValidPrefix tells whether prefix may stand before the subjects: tokens of [A-Za-z0-9_-] joined by single dots.
func ValidPrefix(prefix string) bool {
	for token := range strings.SplitSeq(prefix, ".") {
		if !ValidName(token) {
			return false
		}
	}
	return true
}

// Stream is the name of the JetStream stream that is the log of a shard.
func (s Subjects) Stream(shard int) string {
	return s.name("log-" + strconv.Itoa(shard))
}

// ParticipantsBucket is the name of the KV bucket of registered participants.
func (s Subjects) ParticipantsBucket() string { return s.name("participants") }

// CheckpointsBucket is the name of the KV bucket of the shards' checkpoints.
func (s Subjects) CheckpointsBucket() string { return s.name("checkpoints") }

func (s Subjects) name(rest string) string {
	return strings.ReplaceAll(s.prefix(), ".", "-") + "-" + rest
}

// Log matches every subject of a shard's log.
func (s Subjects) Log(shard int) string { return s.shard("log", shard) + ".>" }

// Prepare carries prepare records to one participant.
func (s Subjects) Prepare(shard int, participant string) string {
	return s.shard("log", shard) + ".prepare." + participant
}

// Vote carries one participant's votes.
func (s Subjects) Vote(shard int, participant string) string {
	return s.shard("log", shard) + ".vote." + participant
}

// Abort carries abort records.
func (s Subjects) Abort(shard int) string { return s.shard("log", shard) + ".abort" }

// Finished carries finished records.
func (s Subjects) Finished(shard int) string { return s.shard("log", shard) + ".finished" }

// Commit carries commits from a shard's leader to one participant; they are not stored.
func (s Subjects) Commit(shard int, participant string) string {
	return s.shard("commit", shard) + "." + participant
}

// Rollback carries rollbacks from a shard's leader to one participant; they are not stored.
func (s Subjects) Rollback(shard int, participant string) string {
	return s.shard("rollback", shard) + "." + participant
}

// Commits matches the commits of every shard for one participant.
func (s Subjects) Commits(participant string) string { return s.prefix() + ".commit.*." + participant }

// Rollbacks matches the rollbacks of every shard for one participant.
func (s Subjects) Rollbacks(participant string) string {
	return s.prefix() + ".rollback.*." + participant
}

// Done carries one participant's answers to commits and rollbacks; they are not stored. The participant "*"
// matches every participant's.
func (s Subjects) Done(shard int, participant string) string {
	return s.shard("done", shard) + "." + participant
}

// Dones matches one participant's answers in every shard.
func (s Subjects) Dones(participant string) string { return s.prefix() + ".done.*." + participant }

// Submit takes submissions for a shard (request and reply).
func (s Subjects) Submit(shard int) string { return s.shard("submit", shard) }

// Wait answers with a transaction's outcome as soon as it is known (request and reply).
func (s Subjects) Wait(shard int) string { return s.shard("wait", shard) }

// API is the subject of a query or an operator's action, such as "register" or "tx.show".
func (s Subjects) API(name string) string { return s.prefix() + ".api." + name }

func (s Subjects) shard(verb string, shard int) string {
	return s.prefix() + "." + verb + "." + strconv.Itoa(shard)
}

// ParseLog reads a log subject: its kind, and the participant for kinds that have one. A subject that is not of the
// protocol has KindUnknown.
func (s Subjects) ParseLog(shard int, subject string) (kind Kind, participant string) {
	of, rest, ok := s.cutShard(subject, "log")
	if !ok || of != shard {
		return KindUnknown, ""
	}
	switch verb, name, found := strings.Cut(rest, "."); {
	case verb == "prepare" && ValidName(name):
		return KindPrepare, name
	case verb == "vote" && ValidName(name):
		return KindVote, name
	case verb == "abort" && !found:
		return KindAbort, ""
	case verb == "finished" && !found:
		return KindFinished, ""
	default:
		return KindUnknown, ""
	}
}

// LastToken is the last token of a subject: the participant, in the subjects that end with one.
func LastToken(subject string) string {
	return subject[strings.LastIndexByte(subject, '.')+1:]
}

// ShardOf reads the shard out of a subject of the form prefix.verb.shard.participant, such as a commit's; ok is
// false for anything else.
func (s Subjects) ShardOf(subject string) (shard int, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.prefix())
	if !ok || rest == "" {
		return 0, false
	}
	verb, _, _ := strings.Cut(rest[1:], ".")
	shard, name, ok := s.cutShard(subject, verb)
	if !ok || !ValidName(verb) || !ValidName(name) {
		return 0, false
	}
	return shard, true
}

// cutShard reads prefix.verb.shard.rest without allocating. A shard is a number as strconv.Itoa writes it.
func (s Subjects) cutShard(subject, verb string) (shard int, rest string, ok bool) {
	for _, token := range [...]string{s.prefix(), verb} {
		after, found := strings.CutPrefix(subject, token)
		if !found || after == "" || after[0] != '.' {
			return 0, "", false
		}
		subject = after[1:]
	}
	number, rest, found := strings.Cut(subject, ".")
	shard, err := strconv.Atoi(number)
	if !found || err != nil || number[0] == '+' || number[0] == '-' || (number[0] == '0' && number != "0") {
		return 0, "", false
	}
	return shard, rest, true
}
