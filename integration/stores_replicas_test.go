// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tx/assent"
	"github.com/assent-tx/assent/coordinator"
	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant/kv"
	"github.com/assent-tx/assent/participant/outbox"
)

// replicated are buckets and a stream of messages on three servers, with the participants of both.
type replicated struct {
	*testing.T
	nc     *nats.Conn
	js     jetstream.JetStream
	kv     *kv.Participant
	outbox *outbox.Outbox
	store  *kv.Client

	mu   sync.Mutex
	seen *sync.Cond
	// moved is how much was moved from each key of the first bucket, and to each of the second, by bucket and key; told are the messages.
	moved map[string]int
	told  map[string]bool
}

const replicatedKeys = 32

// replicatedLeaders is all that the transfers need and that has a leader: streams, and the participants' consumers of the log.
var replicatedLeaders = []string{
	"STREAM." + logName, "STREAM.assent-journal-kv", "STREAM.assent-journal-outbox", "STREAM.KV_a", "STREAM.KV_b", "STREAM.TRANSFERS",
	"CONSUMER." + logName + ".kv", "CONSUMER." + logName + ".outbox",
}

var logName = messages.Subjects{}.Stream(0)

// startReplicated starts everything on three servers, to which it connects by some URLs.
func startReplicated(t *testing.T, urls string) *replicated {
	t.Helper()
	r := &replicated{T: t, nc: connectTo(t, urls), moved: map[string]int{}, told: map[string]bool{}}
	r.seen = sync.NewCond(&r.mu)
	var err error
	r.js, err = jetstream.New(r.nc)
	r.must(err)
	for _, bucket := range []string{"a", "b"} {
		_, err := r.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: bucket, Replicas: 3})
		r.must(err)
	}
	_, err = r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TRANSFERS", Subjects: []string{"transfers"}, Replicas: 3})
	r.must(err)
	c, err := coordinator.New(connectTo(t, urls), coordinator.Config{Replicas: 3})
	r.must(err)
	live(t, c.Run, c.Ready())
	r.kv, err = kv.New(connectTo(t, urls), kv.Config{Replicas: 3})
	r.must(err)
	live(t, r.kv.Run, r.kv.Ready())
	r.outbox, err = outbox.New(connectTo(t, urls), outbox.Config{Replicas: 3})
	r.must(err)
	live(t, r.outbox.Run, r.outbox.Ready())
	nc := connectTo(t, urls)
	client, err := assent.New(nc, assent.Config{})
	r.must(err)
	t.Cleanup(client.Close)
	r.store, err = kv.NewClient(client, nc, kv.ClientConfig{})
	r.must(err)
	return r
}

func (r *replicated) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// transfers runs clients until stop is called, which waits for them. Each moves one from a key of a to a key of b, and says so in a message.
func (r *replicated) transfers(clients int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for n := range clients {
		running.Go(func() {
			defer func() {
				r.mu.Lock() // more may be about to wait
				defer r.mu.Unlock()
				r.seen.Broadcast()
			}()
			for i := 0; ctx.Err() == nil; i++ {
				keys := map[string]string{"a": strconv.Itoa(rand.IntN(replicatedKeys)), "b": strconv.Itoa(rand.IntN(replicatedKeys))}
				message := fmt.Sprintf("%d/%d", n, i)
				if err := r.transfer(keys, message); err != nil { // no fault here is a reason not to commit in the end
					r.Errorf("transfer %s: %v", message, err)
					return
				}
				r.mu.Lock()
				r.moved["a/"+keys["a"]]--
				r.moved["b/"+keys["b"]]++
				r.told[message] = true
				r.mu.Unlock()
				r.seen.Broadcast()
			}
		})
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (r *replicated) transfer(keys map[string]string, message string) error {
	ctx := context.Background()
	return r.store.Txn(ctx, func(tx *kv.Tx) error {
		for bucket, by := range map[string]int{"a": -1, "b": 1} {
			n := 0
			switch e, err := tx.Get(ctx, bucket, keys[bucket]); {
			case err == nil:
				if n, err = strconv.Atoi(string(e.Value)); err != nil {
					return err
				}
			case !errors.Is(err, kv.ErrKeyNotFound):
				return err
			}
			if err := tx.Put(bucket, keys[bucket], []byte(strconv.Itoa(n+by))); err != nil {
				return err
			}
		}
		tx.Enlist(outbox.DefaultName, outbox.Message{Subject: "transfers", Data: []byte(message)})
		return nil
	}, assent.WithTimeout(60*time.Second))
}

// more waits until so many further transfers are committed.
func (r *replicated) more(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for target := len(r.told) + n; len(r.told) < target && !r.Failed(); {
		r.seen.Wait()
	}
}

// leader is who leads a stream or consumer, "" while nobody does.
func (r *replicated) leader(what string) string {
	kind, name, _ := strings.Cut(what, ".")
	msg, err := r.nc.Request("$JS.API."+kind+".INFO."+name, nil, time.Second)
	if err != nil {
		return ""
	}
	var info struct {
		Cluster jetstream.ClusterInfo `json:"cluster"`
	}
	r.must(json.Unmarshal(msg.Data, &info))
	return info.Cluster.Leader
}

func (r *replicated) until(what string, is func() bool) {
	r.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-deadline.C:
			r.Fatalf("waited in vain until %s", what)
		}
	}
}

// gather has one server lead everything: the others step down in its favour.
func (r *replicated) gather(name string) {
	r.until(name+" leads everything", func() bool {
		return r.stepDown(name, func(what string) bool { return r.leader(what) != name }) == 0
	})
}

// stepDown has the leaders of what is chosen step down at once, in favour of a server if it is named, and counts them.
func (r *replicated) stepDown(favour string, chosen func(what string) bool) int {
	var request []byte
	if favour != "" {
		request = fmt.Appendf(nil, `{"placement":{"preferred":%q}}`, favour)
	}
	var asking sync.WaitGroup
	var asked atomic.Int32
	for _, what := range replicatedLeaders {
		asking.Go(func() {
			if chosen(what) {
				kind, name, _ := strings.Cut(what, ".")
				_, _ = r.nc.Request("$JS.API."+kind+".LEADER.STEPDOWN."+name, request, time.Second) // nobody may lead just now
				asked.Add(1)
			}
		})
	}
	asking.Wait()
	return int(asked.Load())
}

// check waits until everything is applied, and compares what is there with what the clients were told.
func (r *replicated) check() {
	r.Helper()
	r.until("nothing is open", func() bool { return r.kv.Stats().Open+r.outbox.Stats().Open == 0 })
	if overtaken := r.kv.Stats().Overtaken; overtaken != 0 {
		r.Errorf("%d values were overtaken by writers that there were not", overtaken)
	}
	for bucket, sign := range map[string]int{"a": -1, "b": 1} {
		b, err := r.js.KeyValue(r.Context(), bucket)
		r.must(err)
		sum := 0
		for key := range replicatedKeys {
			name := strconv.Itoa(key)
			e, err := b.Get(r.Context(), name)
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				continue
			}
			r.must(err)
			n, err := strconv.Atoi(string(e.Value()))
			r.must(err)
			if want := r.moved[bucket+"/"+name]; n != want {
				r.Errorf("%s/%s has %d, want %d", bucket, name, n, want)
			}
			sum += n
		}
		if want := sign * len(r.told); sum != want {
			r.Errorf("bucket %s has %d altogether, want %d", bucket, sum, want)
		}
	}
	r.checkMessages()
}

// checkMessages: each message of a transfer that was committed is there once, and no other is.
func (r *replicated) checkMessages() {
	r.Helper()
	s, err := r.js.Stream(r.Context(), "TRANSFERS")
	r.must(err)
	times := map[string]int{}
	for sequence := uint64(1); sequence <= s.CachedInfo().State.LastSeq; sequence++ {
		m, err := s.GetMsg(r.Context(), sequence)
		r.must(err)
		times[string(m.Data)]++
	}
	for message, n := range times {
		if n != 1 || !r.told[message] {
			r.Errorf("message %s is there %d times; its transfer was committed: %t", message, n, r.told[message])
		}
	}
	if len(times) != len(r.told) {
		r.Errorf("%d messages are there, and %d transfers were committed", len(times), len(r.told))
	}
	if unsure := r.outbox.Stats().Unsure; unsure != 0 {
		r.Errorf("the outbox is unsure of %d transactions", unsure)
	}
}

// The server that leads everything (the log and its consumers, both journals, the buckets, and the stream of the messages) is shut down while
// transfers run: they go on, each of them commits, the totals stay, and each has its message exactly once.
//
// Nobody is connected to that server, so nobody hears that it is gone: what the participants had asked its consumers for, and what the
// coordinator may have asked one for, is lost. They asked again after 30 s and 10 s, when the client's default heartbeats had been missed, and
// all transactions stood still for that long.
func TestStoresOnThreeReplicasLoseTheirLeader(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers in this process take half a minute under the race detector, and share nothing with the test: -short was given")
	}
	t.Parallel()
	const enough = 40
	servers := startCluster(t, 3)
	victim := servers[0]
	r := startReplicated(t, urlsOf(servers[1:]))
	stop := r.transfers(8)
	r.more(enough)
	for range enough / 12 { // what is under way then may be stored or not, and nobody hears which
		r.stepDown("", func(what string) bool { return !strings.Contains(what, logName) })
		r.more(2)
	}
	r.gather(victim.Name())
	victim.Shutdown()
	gone := time.Now()
	r.more(enough)
	if stood := time.Since(gone); stood > 25*time.Second {
		t.Errorf("it took %v until %d transfers were done", stood, enough)
	}
	stop()
	r.check()
}
