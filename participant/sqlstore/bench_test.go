// SPDX-License-Identifier: Apache-2.0

package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/assent-tx/assent/participant"
)

// BenchmarkBranches measures branches of 64 callers, each a prepare and a commit that are synced: each local transaction on its
// own, and as many as come together in one. What a Store does is "shared" on SQLite and "own" elsewhere.
//
//	go test ./participant/sqlstore -run '^$' -bench Branches -benchtime 2s
func BenchmarkBranches(b *testing.B) {
	for _, on := range systems {
		b.Run(on.name, func(b *testing.B) {
			dsn := strings.Replace(on.dsn(b), "synchronous(off)", "synchronous(full)", 1)
			db := on.openAt(b, dsn)
			db.SetMaxIdleConns(64)
			makeStock(b, db)
			for n := range 64 {
				exec(b, db, `INSERT INTO stock VALUES ('`+fmt.Sprint("sku", n)+`', 1000000, 0, 0)`)
			}
			s := reopenShop(b, on, db)
			shared := &group{db: db, begin: newStatements(SQLite).begin, busy: func(err error) bool { return s.judge(err) == inTheWay }}
			for _, way := range []struct {
				name  string
				group *group
			}{{"own", nil}, {"shared", shared}} {
				b.Run(way.name, func(b *testing.B) {
					s.group = way.group
					measure(b, s)
				})
			}
		})
	}
}

func measure(b *testing.B, s *shop) {
	ctx := context.Background()
	var callers sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	for n := range 64 {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				branch := take(fmt.Sprint("sku", n), 1)
				for {
					if vote, err := s.Prepare(ctx, branch); vote == participant.Yes && err == nil {
						break
					} else if s.judge(err) != inTheWay {
						b.Error(err)
						return
					}
				}
				for {
					if err := s.Commit(ctx, branch.Tx); err == nil {
						break
					} else if s.judge(err) != inTheWay {
						b.Error(err)
						return
					}
				}
			}
		})
	}
	callers.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "branches/s")
}
