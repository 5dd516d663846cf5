// SPDX-License-Identifier: Apache-2.0

package assent_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/embedded"
)

// While a shard has no leader the client asks several times a second, for another one is about to take over: at 2 s
// between two attempts, as long as the lease, it would be the client that the caller waits for.
func TestAClientAsksOftenWhileNobodyLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
		must(t, err)
		defer func() { must(t, s.Close()) }()
		nc, err := s.Connect()
		must(t, err)
		defer nc.Close()
		_, err = nc.Subscribe("assent.api.info", func(msg *nats.Msg) { must(t, msg.Respond([]byte(`{"shards":1}`))) })
		must(t, err)
		client, err := assent.New(nc, assent.Config{})
		must(t, err)
		defer client.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		outcome := submit(ctx, client, assent.NewID(), "p")
		time.Sleep(5 * time.Second) //nolint:forbidigo // in a bubble
		synctest.Wait()
		before := nc.Stats().OutMsgs
		time.Sleep(10 * time.Second) //nolint:forbidigo // in a bubble
		synctest.Wait()
		if asked := nc.Stats().OutMsgs - before; asked < 30 || asked > 60 {
			t.Errorf("it asked %d times in 10 s, want about 40", asked)
		}
		if err := <-outcome; !errors.Is(err, assent.ErrUnknown) || !errors.Is(err, assent.ErrNoCoordinator) {
			t.Errorf("got %v", err)
		}
	})
}
