// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/embedded"
	"github.com/assent-tx/assent/messages"
)

// A Commit hears nothing; the same again is refused, by a leader that does not know (yet) what the one before has accepted. That is no proof
// that it did not happen.
func TestARefusalIsNoProofAboutTheCommitBefore(t *testing.T) {
	for _, code := range []messages.Code{messages.CodeOverloaded, messages.CodeUnknownParticipant} {
		t.Run(string(code), func(t *testing.T) {
			nc := connect(t, server(t, embedded.Config{}))
			var answers atomic.Bool
			heard := make(chan struct{}, 16)
			serve := func(subject string, answer func(*nats.Msg)) {
				t.Helper()
				_, err := nc.Subscribe(subject, answer)
				must(t, err)
			}
			serve(messages.Subjects{}.API("info"), func(msg *nats.Msg) { _ = msg.Respond([]byte(`{"shards":1}`)) })
			serve(messages.Subjects{}.Submit(0), func(msg *nats.Msg) {
				heard <- struct{}{}
				var decoder messages.Decoder
				var sub messages.Submission
				if err := decoder.Submission(msg.Data[:len(msg.Data)-1], &sub); err != nil || !answers.Load() {
					return
				}
				_ = msg.Respond(messages.AppendAnswer(nil, &messages.Answer{Tx: sub.Tx, Error: code, Message: "not now"}))
			})
			client := newClient(t, nc)
			tx := client.Begin()
			tx.Enlist("p", 1)
			ctx, cancel := context.WithCancel(patient(t))
			go func() {
				<-heard
				cancel()
			}()
			if err := tx.Commit(ctx); !errors.Is(err, assent.ErrUnknown) {
				t.Fatalf("nobody answers: %v, want ErrUnknown", err)
			}
			answers.Store(true)
			refused, cancel := context.WithTimeout(patient(t), time.Minute)
			defer cancel()
			err := tx.Commit(refused)
			if !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrOverloaded) && !errors.Is(err, assent.ErrUnknownParticipant) {
				t.Errorf("the same again, refused: %v, want that it is unknown", err)
			}
			other := client.Begin()
			other.Enlist("p", 1)
			if err := other.Commit(refused); err == nil || errors.Is(err, assent.ErrUnknown) {
				t.Errorf("another one, refused: %v, want that it was not accepted", err)
			}
		})
	}
}
