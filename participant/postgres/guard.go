// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
)

// errOutcome is what the application gets that ends a branch's transaction itself.
var errOutcome = errors.New("postgres: the outcome ends a branch's transaction, not the function that executes it")

// guarded is the transaction that an application gets: it can do everything but end it. (A deferred Rollback, as one is used to
// write it, does nothing.)
type guarded struct{ pgx.Tx }

func (*guarded) Commit(context.Context) error   { return errOutcome }
func (*guarded) Rollback(context.Context) error { return errOutcome }
