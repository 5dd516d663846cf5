// SPDX-License-Identifier: Apache-2.0

// The command checkout takes orders in a shop of four services, each with a store of its own: an order is written, its pieces leave
// the stock, the card is charged and a confirmation is sent, or none of it happens.
//
//	go run ./examples/checkout
//
//	service   store                     prepared means                  who does it
//	orders    PostgreSQL                PREPARE TRANSACTION             participant/postgres (orders.go)
//	stock     MariaDB or SQLite         pieces are reserved             participant/sqlstore (stock.go)
//	payments  an external provider's    an authorisation of the card    a Handler of its own (payments.go)
//	outbox    NATS JetStream            an entry in its journal         participant/outbox
//
// It starts NATS with a coordinator, and throw-away database servers of what is installed, or uses those that -postgres and -stock
// name. Then it takes one order that goes through and four of which each fails at another service, shows all stores after
// each, and ends with an error if anything is there that must not be.
//
// The services run in this process, to be one command; each could be one of its own, on its own machine.
package main
