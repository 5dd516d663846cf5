// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/handover"
	"github.com/assent-tx/assent/participant"
	"github.com/assent-tx/assent/router"
)

// ErrHolds is why an account does not move: a transaction holds something of it.
var ErrHolds = errors.New("a transaction has a hold on it")

// Share makes the bank one of several that share the accounts of a group: it has those of the partitions that it holds, and takes
// part in transactions only for them. Call it before the first branch.
func (s *Store) Share(group string, partitions int) *handover.Holdings {
	s.holdings = &handover.Holdings{Group: group, Partitions: partitions, File: s.file, Bucket: accounts.Name, Busy: busy}
	return s.holdings
}

// busy is an account that must stay: its branch is here, and would not find it.
func busy(name string, value []byte) error {
	a, err := accounts.Decode([]byte(name), value)
	if err == nil && (a.Outgoing != 0 || a.Incoming != 0) {
		err = fmt.Errorf("account %.80q: %w: %d cents to pay, %d to get", name, ErrHolds, a.Outgoing, a.Incoming)
	}
	return err
}

// mine gives an error unless a bank that shares a group's accounts holds those of the entries. The node has claimed them for the
// branch already; what the store adds is that each entry is for the account by which the node was found, and that it never
// touches an account that was handed over.
func (s *Store) mine(tx *bbolt.Tx, b *participant.Branch, entries []Entry) error {
	if s.holdings == nil {
		return nil
	}
	for i, e := range entries {
		switch route := b.Operations[i].Route; {
		case route == nil || route.Group != s.holdings.Group:
			return participant.Refuse(fmt.Errorf("operation %d: enlist it by its account, in group %s", i, s.holdings.Group))
		case route.Key != e.Account:
			return participant.Refuse(fmt.Errorf("operation %d: it was enlisted by key %.80q, and is for account %.80q", i, route.Key, e.Account))
		}
		if err := s.holdings.Holds(tx, e.Account); err != nil {
			return err
		}
	}
	return nil
}

// Request asks a bank that shares the accounts of a group for one of them, outside of transactions. It goes to whoever has it:
// router.Client.Request, by the account's name.
type Request struct {
	// Open opens the account with so many cents, unless it exists; nil only asks.
	Open *int64 `json:"open,omitempty"`
}

// Response is the answer.
type Response struct {
	Account
	// Exists: there is such an account.
	Exists bool   `json:"exists"`
	Error  string `json:"error,omitempty"`
}

// Ask asks whoever has an account for it, and opens it there if the request says so. What the bank found wrong is an error.
func Ask(ctx context.Context, client *router.Client, group, account string, request Request) (Account, error) {
	body, err := json.Marshal(&request)
	if err != nil {
		return Account{}, err
	}
	msg, err := client.Request(ctx, group, account, body)
	if err != nil {
		return Account{}, fmt.Errorf("account %.80q: %w", account, err)
	}
	var response Response
	if err := json.Unmarshal(msg.Data, &response); err != nil {
		return Account{}, fmt.Errorf("account %.80q: its bank answers %.200q: %w", account, msg.Data, err)
	}
	switch {
	case response.Error != "":
		return Account{}, fmt.Errorf("account %.80q: its bank says: %s", account, response.Error)
	case !response.Exists:
		return Account{}, fmt.Errorf("account %.80q: %w", account, ErrNoAccount)
	}
	return response.Account, nil
}

// ErrNoAccount: nobody has opened the account.
var ErrNoAccount = errors.New("there is no such account")

// answer answers a Request for an account. The router calls it only while the account's partition is held here.
func (s *Store) answer(account string, data []byte) []byte {
	var response Response
	if err := s.respond(account, data, &response); err != nil {
		response.Error = err.Error()
	}
	out, err := json.Marshal(response)
	if err != nil {
		panic(fmt.Sprintf("bank: a response that is no JSON: %v", err)) // it is numbers and a text
	}
	return out
}

func (s *Store) respond(account string, data []byte, response *Response) error {
	var request Request
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return fmt.Errorf("the request: %w", err)
	}
	if request.Open != nil {
		if err := s.OpenAccounts(*request.Open, account); err != nil {
			return err
		}
	}
	return s.file.View(func(tx *bbolt.Tx) (err error) {
		if err := s.holdings.Holds(tx, account); err != nil {
			return err
		}
		response.Account, response.Exists, err = accounts.Get(tx, handover.Key(account))
		return err
	})
}
