// SPDX-License-Identifier: Apache-2.0

// Package check is `assent check`: transactions that read and write the same few keys while processes are killed and paused and
// connections break, and then a search for anomalies in what their clients saw (package elle).
//
//	clients ──assent.Client──▶ coordinators ──▶ stores (package store)
//	   │                                           │
//	   └◀────────── what was read ─────────────────┘
//	   └──▶ history ──▶ elle.Check
//
// The stores are processes of this program's, as the coordinators are unless there is a running cluster to be checked. What goes wrong
// is chosen at random, one fault after the other, and only ever hits what was started here.
//
// A client's transactions are recorded as they happen: invoke before it is submitted, and its end after its outcome was learnt. One
// whose outcome cannot be learnt may have happened. In the end all lists are read.
package check
