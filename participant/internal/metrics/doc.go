// SPDX-License-Identifier: Apache-2.0

// Package metrics makes Prometheus collectors of the statistics that participants and their stores have as Go functions.
//
// What it guarantees: Collect ends within two and a half seconds, also when a database does not answer, or its driver does not listen to the
// context. An error is never a number, nor is it left out: it is an invalid metric, which is an error of the scrape. Those who collect at the same time
// share one question: what they get may have been asked for before they came. While a question hangs there is no second one.
//
// Every metric has the label participant, so that a process may register several. Two of the same name are one too many: Register refuses
// the second.
package metrics
