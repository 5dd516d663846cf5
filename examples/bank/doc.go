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
// the disk, makes a whole batch of branches durable; participant.InDoubt, so that a restart asks for the outcomes it
// missed; and participant.Watermark, so that a log which lost data is noticed.
//
// What it remembers of a transaction:
//
//	unknown ──prepare──▶ prepared ──commit or rollback──▶ finished ──expired──▶ unknown
//	   └──refused, or read-only: nothing is kept
//
// A finished transaction is remembered until it has expired, because its prepare may be delivered again until then; a
// later one is stopped by the SDK.
package bank
