// SPDX-License-Identifier: Apache-2.0

package locks

import (
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"
)

// Config says where locks are and who takes them. The zero Config is the bucket "assent-locks" with a TTL of 10 s.
type Config struct {
	// Bucket is the name of the bucket, [A-Za-z0-9_-]{1,64}; default "assent-locks". Its streams are KV_<Bucket>-0 and so on.
	// It is made when it is not there.
	Bucket string
	// Streams is over how many streams the keys of the bucket are spread, 1 to 64; fixed when it is made. 0 is whatever
	// the bucket has; a new one gets 8 when it is not replicated, and 1 when it is (then one stream syncs for many).
	Streams int
	// Replicas is how many servers hold a new bucket: 1, 3 or 5; default 1.
	Replicas int
	// TTL is how long a session lives without a renewal, 1 s to 1 h; default 10 s. It is how long a lock stays held when its
	// holder dies, and how long a holder can be cut off from NATS without losing its locks.
	TTL time.Duration
	// Owner says who takes locks, to people who look at them; at most 64 bytes of UTF-8; default host:pid.
	Owner string
	// Log receives what an operator should know; nil discards it.
	Log *logrus.Logger
}

// Bounds of a Config.
const (
	minTTL     = time.Second
	maxTTL     = time.Hour
	defaultTTL = 10 * time.Second
	maxOwner   = 64
)

func (cfg Config) withDefaults() (Config, error) {
	if cfg.Bucket == "" {
		cfg.Bucket = DefaultBucket
	}
	if err := checkBucketName(cfg.Bucket); err != nil {
		return cfg, err
	}
	if cfg.Streams < 0 || cfg.Streams > maxStreams {
		return cfg, fmt.Errorf("locks: %w: Streams %d: want 1 to %d", ErrInvalid, cfg.Streams, maxStreams)
	}
	switch cfg.Replicas {
	case 0, 1, 3, 5:
	default:
		return cfg, fmt.Errorf("locks: %w: Replicas %d: want 1, 3 or 5", ErrInvalid, cfg.Replicas)
	}
	if cfg.TTL == 0 {
		cfg.TTL = defaultTTL
	}
	if cfg.TTL < minTTL || cfg.TTL > maxTTL {
		return cfg, fmt.Errorf("locks: %w: TTL %s: want %s to %s", ErrInvalid, cfg.TTL, minTTL, maxTTL)
	}
	if cfg.Owner == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "localhost"
		}
		cfg.Owner = fmt.Sprintf("%.48s:%d", host, os.Getpid())
	}
	if err := checkOwner(cfg.Owner); err != nil {
		return cfg, err
	}
	if cfg.Log == nil {
		cfg.Log = logrus.New()
		cfg.Log.SetOutput(io.Discard)
	}
	return cfg, nil
}

// checkOwner refuses what is too long, and what would be stored as another text: a session knows its record again by its owner.
func checkOwner(owner string) error {
	switch {
	case len(owner) > maxOwner:
		return fmt.Errorf("locks: %w: Owner has %d bytes, at most %d are allowed", ErrInvalid, len(owner), maxOwner)
	case !utf8.ValidString(owner):
		return fmt.Errorf("locks: %w: Owner %q is not UTF-8", ErrInvalid, owner)
	}
	return nil
}
