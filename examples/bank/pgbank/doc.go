// SPDX-License-Identifier: Apache-2.0

// Package pgbank is the bank of the example in PostgreSQL: the same entries, and no code for holds, because a prepared
// transaction of the database holds what it has changed.
//
//	bbolt      to prepare is to put holds on accounts, in one commit for many branches   package bank
//	PostgreSQL to prepare is UPDATE, then PREPARE TRANSACTION                             this package, by participant/postgres
//
// What may not be is the database's own rule: a balance is from 0 to bank.MaxCents. Whoever breaks it is refused.
//
// Entries of one account wait for each other in the database until the transaction that has changed it is over, and then, after
// postgres.Config.LockTimeout, meet a conflict. Clients that name the account as a key (Key) wait in order, before the database is
// asked, and do not lock each other out; assent.Client.Do tries again what met a conflict.
package pgbank
