// SPDX-License-Identifier: Apache-2.0

package bank

import (
	"context"

	"go.etcd.io/bbolt"

	"github.com/assent-tx/assent/examples/tables"
	"github.com/assent-tx/assent/messages"
)

// InDoubt implements participant.InDoubt: the transactions that are prepared here and wait for their outcome.
func (s *Store) InDoubt(context.Context) ([]messages.ID, error) {
	var txs []messages.ID
	err := s.db.View(func(tx *bbolt.Tx) error {
		return prepared.Each(tx, func(id []byte, _ preparedBranch) error {
			txs = append(txs, messages.ID(id))
			return nil
		})
	})
	return txs, err
}

// watermark is how far a log had come when it took this bank's last vote.
type watermark struct {
	Incarnation string `json:"incarnation"`
	Sequence    uint64 `json:"sequence"`
}

// Watermark implements participant.Watermark.
func (s *Store) Watermark(_ context.Context, stream string) (incarnation string, sequence uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		mark, _, err := watermarks.Get(tx, []byte(stream))
		incarnation, sequence = mark.Incarnation, mark.Sequence
		return err
	})
	return incarnation, sequence, err
}

// SetWatermark implements participant.Watermark.
func (s *Store) SetWatermark(_ context.Context, stream, incarnation string, sequence uint64) error {
	return tables.Update(s.db, func(w *tables.Writer) error {
		return watermarks.Put(w, []byte(stream), watermark{incarnation, sequence})
	})
}
