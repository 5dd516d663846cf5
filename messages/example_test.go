// SPDX-License-Identifier: Apache-2.0

package messages_test

import (
	"errors"
	"fmt"

	"github.com/assent-tx/assent/messages"
)

// A participant reads a message of prepares and answers with a message of votes.
func Example() {
	subject, body := "assent.log.0.prepare.bank-a", []byte(
		`{"tx":"0190163d-8694-739b-aea5-966c26f8ad91","participants":["bank-a","bank-b"],"expires":1763856000000,`+
			`"operations":[{"keys":["a/1"],"payload":{"add":-5}}]}`+"\n")
	subjects := messages.Subjects{}
	kind, participant := subjects.ParseLog(0, subject)
	fmt.Println(kind, "for", participant)

	var decoder messages.Decoder
	var prepare messages.Prepare
	var votes []byte
	for line := range messages.Lines(body) {
		if err := decoder.Prepare(line, &prepare); err != nil {
			continue // malformed: count it, as every reader does
		}
		fmt.Printf("%s %s\n", prepare.Operations[0].Keys, prepare.Operations[0].Payload)
		votes = messages.AppendVote(votes, &messages.VoteRecord{Tx: prepare.Tx, Vote: messages.VoteYes})
		votes = append(votes, '\n')
	}
	fmt.Print(subjects.Vote(0, participant), " ", string(votes))
	// Output:
	// prepare for bank-a
	// [a/1] {"add":-5}
	// assent.log.0.vote.bank-a {"tx":"0190163d-8694-739b-aea5-966c26f8ad91","vote":"yes"}
}

// A fault names the field and the rule.
func ExampleFieldError() {
	var decoder messages.Decoder
	var sub messages.Submission
	err := decoder.Submission([]byte(
		`{"tx":"0190163d-8694-739b-aea5-966c26f8ad91","timeout_ms":10,"operations":[{"participant":"bank-a"}]}`), &sub)
	var fault *messages.FieldError
	fmt.Println(errors.As(err, &fault), errors.Is(err, messages.ErrMalformed))
	fmt.Println(fault.Field)
	fmt.Println(fault.Problem)
	// Output:
	// true true
	// timeout_ms
	// 10 ms; from 1000 to 86400000
}

func ExampleID_Shard() {
	id, err := messages.ParseID("0190163d-8694-739b-aea5-966c26f8ad91")
	fmt.Println(id.Shard(4), id.Time().UTC().Format("2006-01-02 15:04:05.000"), err)
	// Output: 1 2024-06-14 10:14:09.300 <nil>
}
