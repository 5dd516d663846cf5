// SPDX-License-Identifier: Apache-2.0

// Package bank is a participant as an application would write it: accounts in a bbolt file, which take part in
// transactions that span several banks.
//
// A branch is one or more entries, each a debit or a credit of one account:
//
//	{"account":"alice","cents":-500}
//
// To prepare an entry is to put a hold on its account: a debit is reserved and can be spent by nobody else, a credit is
// promised and can be spent by nobody yet. To commit is to turn the holds into balance, to roll back is to lift them.
// Neither can fail, because what could fail was checked by prepare.
//
//	balance 1000 ──prepare -500──▶ balance 1000, outgoing 500 ──commit────▶ balance 500
//	                                                          └─rollback──▶ balance 1000
//
// The Store is all there is to it: it implements participant.BatchHandler, so that one commit of the file, which syncs
// the disk, makes a whole batch of branches durable. What it has to remember of transactions is its Journal, of package tables,
// which implements participant.InDoubt, so that a restart asks for the outcomes it missed, and participant.Watermark, so that a
// log which lost data is noticed.
//
// # Alone, or one of several
//
// A bank has accounts of its own, and transactions name it:
//
//	tx.Enlist("bank-a", bank.Entry{Account: "alice", Cents: -500})
//
// Or it shares the accounts of a group with other banks (Config.Group). Then it is a node of the group, and transactions name
// the account only; the ring says at which bank that is now:
//
//	tx.EnlistKey("accounts", "alice", bank.Entry{Account: "alice", Cents: -500})
//
// When banks come and go, accounts move with their partitions, from file to file (package handover). An account with a hold on
// it never moves: its transaction ends where it began.
//
// Package pgbank is the same bank in PostgreSQL, where the database's prepared transactions are the holds.
package bank
