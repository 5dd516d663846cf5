// SPDX-License-Identifier: Apache-2.0

package messages

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// kind is one kind of record with everything that the tests need of it.
type kind[R any] struct {
	decode func(*Decoder, []byte, *R) error
	encode func([]byte, *R) []byte
	view   func(*R) wireRecord
	rule   rule
}

const safe = 1<<53 - 1

var (
	version     = number(1, 1)
	wholeNumber = number(0, safe)
	fromOne     = number(1, safe)
	wireRouting = object(map[string]rule{
		"group": wireName, "key": wireKey, "incarnation": fromOne, "epoch": fromOne,
	}, "group", "key", "incarnation", "epoch")

	wireLocks = both(list(0, 64, object(map[string]rule{"key": wireKey, "token": wireToken}, "key", "token")), lockedOnce)

	prepares = kind[Prepare]{(*Decoder).Prepare, AppendPrepare, viewPrepare, object(map[string]rule{
		"tx": wireID, "v": version, "participants": both(list(1, 64, wireName), differ), "expires": wholeNumber, "routing": fromOne,
		"since": fromOne, "locks": wireLocks,
		"operations": list(1, 1024, both(object(map[string]rule{
			"keys": list(0, 1024, wireKey), "shared": list(0, 1024, wireKey), "payload": payload, "route": wireRouting}), fewKeys)),
		"trace": wireTrace,
	}, "tx", "participants", "expires", "operations")}

	votes = kind[VoteRecord]{(*Decoder).Vote, AppendVote, func(v *VoteRecord) wireRecord {
		return wireRecord{Tx: v.Tx.String(), Vote: json.RawMessage(strconv.Quote(v.Vote.String())), Reason: v.Reason, Held: v.Held,
			WrongOwner: v.WrongOwner, Conflict: v.Conflict}
	}, both(both(object(map[string]rule{
		"held": oneOf("true", "false"), "tx": wireID, "v": version, "vote": oneOf(`"yes"`, `"no"`, `"read-only"`), "reason": wireReason,
		"wrong_owner": fromOne, "conflict": oneOf("true", "false"),
	}, "tx", "vote"), only("wrong_owner", "vote", `"no"`)), truly("conflict", "vote", `"no"`))}

	aborts = kind[Abort]{(*Decoder).Abort, AppendAbort, func(a *Abort) wireRecord {
		return wireRecord{Tx: a.Tx.String(), Reason: a.Reason}
	}, object(map[string]rule{"tx": wireID, "v": version, "reason": wireReason}, "tx")}

	finisheds = kind[Finished]{(*Decoder).Finished, AppendFinished, viewFinished, object(map[string]rule{
		"tx": wireID, "v": version, "through": wholeNumber,
		"heuristics": list(0, 64, object(map[string]rule{"participant": wireName, "reason": wireReason}, "participant")),
	}, "tx", "through")}

	effects = kind[Effect]{(*Decoder).Effect, AppendEffect, func(e *Effect) wireRecord {
		return wireRecord{Tx: e.Tx.String(), Vote: sequence(e.Vote), Expires: e.Expires}
	}, object(map[string]rule{
		"tx": wireID, "v": version, "vote": wholeNumber, "expires": wholeNumber,
	}, "tx", "vote")}

	dones = kind[Done]{(*Decoder).Done, AppendDone, func(d *Done) wireRecord {
		return wireRecord{Tx: d.Tx.String(), Vote: sequence(d.Vote), Heuristic: d.Heuristic, Working: d.Working}
	}, object(map[string]rule{
		"tx": wireID, "v": version, "vote": wholeNumber, "heuristic": wireReason, "working": oneOf("true", "false"),
	}, "tx", "vote")}

	submissions = kind[Submission]{(*Decoder).Submission, AppendSubmission, viewSubmission, object(map[string]rule{
		"tx": wireID, "v": version, "timeout_ms": number(1000, 24*60*60*1000), "trace": wireTrace,
		"since": fromOne, "locks": wireLocks,
		"operations": both(list(1, 1024, both(object(map[string]rule{
			"participant": wireName, "keys": list(0, 1024, wireKey), "shared": list(0, 1024, wireKey), "payload": payload, "route": wireRouting,
		}, "participant"), fewKeys)), fewParticipants),
	}, "tx", "operations")}

	answers = kind[Answer]{(*Decoder).Answer, AppendAnswer, viewAnswer, both(both(both(object(map[string]rule{
		"tx": either(wireID, wireNoID), "v": version, "outcome": oneOf(`"committed"`, `"aborted"`),
		"participant": wireName, "reason": wireReason, "error": text(64), "field": text(1024), "message": text(4096),
		"wrong_owner": fromOne, "conflict": oneOf("true", "false"),
	}, "tx"), outcomeOrError), only("wrong_owner", "outcome", `"aborted"`)), truly("conflict", "outcome", `"aborted"`))}

	waits = kind[Wait]{(*Decoder).Wait, AppendWait, func(w *Wait) wireRecord {
		return wireRecord{Tx: w.Tx.String(), Now: w.Now}
	}, object(map[string]rule{"tx": wireID, "v": version, "now": oneOf("true", "false")}, "tx")}
)

func viewOperations(ops []Operation) (all []wireOperation) {
	for _, op := range ops {
		all = append(all, wireOperation{op.Participant, op.Keys, op.Shared, op.Payload, (*wireRoute)(op.Route)})
	}
	return all
}

func viewLocks(locks []Lock) (all []wireLock) {
	for _, lock := range locks {
		all = append(all, wireLock(lock))
	}
	return all
}

func viewPrepare(p *Prepare) wireRecord {
	return wireRecord{Tx: p.Tx.String(), Participants: p.Participants, Expires: p.Expires, Since: p.Since, Routing: p.Routing,
		Locks: viewLocks(p.Locks), Operations: viewOperations(p.Operations), Trace: p.Trace}
}

func viewFinished(f *Finished) wireRecord {
	w := wireRecord{Tx: f.Tx.String(), Through: f.Through}
	for _, h := range f.Heuristics {
		w.Heuristics = append(w.Heuristics, wireHeuristic(h))
	}
	return w
}

func viewSubmission(s *Submission) wireRecord {
	return wireRecord{Tx: s.Tx.String(), TimeoutMS: s.TimeoutMS, Since: s.Since, Locks: viewLocks(s.Locks),
		Operations: viewOperations(s.Operations), Trace: s.Trace}
}

func viewAnswer(a *Answer) wireRecord {
	w := wireRecord{Participant: a.Participant, Reason: a.Reason, Error: string(a.Error), Field: a.Field, Message: a.Message,
		WrongOwner: a.WrongOwner, Conflict: a.Conflict}
	if !a.Tx.IsZero() {
		w.Tx = a.Tx.String()
	}
	if a.Outcome != Undecided {
		w.Outcome = a.Outcome.String()
	}
	return w
}

func fewParticipants(raw json.RawMessage) bool {
	var ops []wireOperation
	_ = json.Unmarshal(raw, &ops)
	names := make([]string, 0, len(ops))
	for _, op := range ops {
		names = append(names, op.Participant)
	}
	slices.Sort(names)
	return len(slices.Compact(names)) <= 64
}

func outcomeOrError(raw json.RawMessage) bool {
	members, _ := membersOf(raw)
	failed := members["error"] != nil && !bytes.Equal(members["error"][0], []byte(`""`))
	return (members["outcome"] != nil) != failed
}

// tester is a kind without its type parameter.
type tester interface {
	// check decodes the line and says how that breaks a promise of the package, if it does; err is the decoder's.
	check(line []byte) (broken string, err error)
	// read gives what the line says, and the text that is written for it.
	read(line []byte) (view wireRecord, text string, err error)
}

var kinds = map[string]tester{
	"prepare": prepares, "vote": votes, "abort": aborts, "finished": finisheds, "effect": effects, "done": dones,
	"submission": submissions, "answer": answers, "wait": waits,
}
