// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
)

// Config says what is measured. Dir, Concurrency, Participants, Payload and Duration are required.
type Config struct {
	// Dir is where the server keeps its data; it should be empty.
	Dir string
	// Concurrency is how many clients each row has, 1 to 16,384, in the order of the rows.
	Concurrency []int
	// Participants is how many participants each transaction has, 1 to 64.
	Participants int
	// Payload is the size of each operation's payload, and of the yardstick's messages, in bytes: a JSON string of 2 bytes or
	// more. A transaction must not be larger than the protocol allows.
	Payload int
	// Duration is how long a row is measured, at least a millisecond.
	Duration time.Duration
	// Warmup runs before each row and is not measured; 0 for none.
	Warmup time.Duration
	// Shards is how many logs there are, 1 to 256; default 1.
	Shards int
	// Connection is the coordinator's; default InProcess.
	Connection Connection
	// Handler is the kind that the participants have; default Batch.
	Handler Handler
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
	// Progress, when not nil, hears several times a second what is being done, and what part of the whole is, 0 to 1.
	Progress func(step string, done float64)
}

// Connection is how the coordinator is connected to the server. Clients and participants always use TCP.
type Connection string

// The connections.
const (
	InProcess Connection = "in-process" // as in `assent serve` on its embedded server
	TCP       Connection = "tcp"
)

// Handler is which of the SDK's interfaces the participants implement.
type Handler string

// The handlers.
const (
	Batch  Handler = "batch"  // participant.BatchHandler: as a store does that makes many branches durable with one sync
	Single Handler = "single" // participant.Handler: a call, and a goroutine, for each branch
)

// The bounds of a Config.
const (
	maxClients = 16_384
	maxShards  = 256 // the coordinator's bound
	// besidesPayload is what an operation adds to a transaction beside its payload, in bytes, rounded up.
	besidesPayload = 128
)

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Shards == 0 {
		cfg.Shards = 1
	}
	if cfg.Connection == "" {
		cfg.Connection = InProcess
	}
	if cfg.Handler == "" {
		cfg.Handler = Batch
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, float64) {}
	}
	return cfg, cfg.Check()
}

// Check gives an error that names the first field that is out of its bounds.
func (cfg *Config) Check() error {
	for _, clients := range cfg.Concurrency {
		if clients < 1 || clients > maxClients {
			return fmt.Errorf("concurrency: %d clients: want 1 to %d", clients, maxClients)
		}
	}
	largest := (messages.MaxRecord-besidesPayload)/max(cfg.Participants, 1) - besidesPayload
	switch {
	case cfg.Dir == "":
		return fmt.Errorf("dir: missing: name a directory for the server's data")
	case len(cfg.Concurrency) == 0:
		return fmt.Errorf("concurrency: missing: want the number of clients of at least one row")
	case cfg.Participants < 1 || cfg.Participants > messages.MaxParticipants:
		return fmt.Errorf("participants: %d: want 1 to %d", cfg.Participants, messages.MaxParticipants)
	case cfg.Payload < 2 || cfg.Payload > largest:
		return fmt.Errorf("payload: %d bytes: want 2 to %d with %d participants", cfg.Payload, largest, cfg.Participants)
	case cfg.Duration < time.Millisecond:
		return fmt.Errorf("duration: %v: want at least 1ms", cfg.Duration)
	case cfg.Warmup < 0:
		return fmt.Errorf("warmup: %v: cannot be negative", cfg.Warmup)
	case cfg.Shards < 0 || cfg.Shards > maxShards:
		return fmt.Errorf("shards: %d: want 1 to %d", cfg.Shards, maxShards)
	case cfg.Connection != "" && cfg.Connection != InProcess && cfg.Connection != TCP:
		return fmt.Errorf("coordinator: %q: want %s or %s", cfg.Connection, InProcess, TCP)
	case cfg.Handler != "" && cfg.Handler != Batch && cfg.Handler != Single:
		return fmt.Errorf("handler: %q: want %s or %s", cfg.Handler, Batch, Single)
	}
	return nil
}
