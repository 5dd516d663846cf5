// SPDX-License-Identifier: Apache-2.0

package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/assent-tx/assent/internal/groupcommit"
)

// model checks each message as it leaves and as its fate is told.
type model struct {
	mu                   sync.Mutex
	maxRecords, maxBytes int
	underWay             map[string]bool
	sent                 map[string][]string // by subject
	lastBody             map[string]string
	told                 map[string][]string
	faults               []string
	count                uint64
	lastSequence         map[string]uint64
	lastErr              map[string]error
}

var errOdd = errors.New("a send that fails")

func (m *model) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (m *model) send(_ context.Context, subject string, body []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.underWay[subject] {
		m.fault("two messages of %s are under way", subject)
	}
	m.underWay[subject] = true
	records := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if len(records) > m.maxRecords || (len(body) > m.maxBytes && len(records) > 1) {
		m.fault("%d records in %d bytes", len(records), len(body))
	}
	m.sent[subject] = append(m.sent[subject], records...)
	m.count++
	m.lastBody[subject], m.lastSequence[subject], m.lastErr[subject] = string(body), m.count, nil
	if m.count%5 == 0 {
		m.lastErr[subject] = errOdd
	}
	m.mu.Unlock()
	runtime.Gosched()
	m.mu.Lock()
	return m.count, m.lastErr[subject]
}

func (m *model) settled(subject string, tags []string, _ uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.underWay[subject] {
		m.fault("a fate of %s that is not under way", subject)
	}
	m.underWay[subject] = false
	if got := strings.Join(tags, "\n") + "\n"; got != m.lastBody[subject] {
		m.fault("tags %q of the message %q", got, m.lastBody[subject])
	}
	if !errors.Is(err, m.lastErr[subject]) {
		m.fault("error %v, want %v", err, m.lastErr[subject])
	}
	m.told[subject] = append(m.told[subject], tags...)
}

// Whatever appenders do at once: within a subject nothing is lost, doubled or reordered, and the bounds hold.
func TestProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			maxRecords: rapid.IntRange(1, 6).Draw(t, "maxRecords"), maxBytes: rapid.IntRange(1, 120).Draw(t, "maxBytes"),
			underWay: map[string]bool{}, sent: map[string][]string{}, lastBody: map[string]string{},
			told: map[string][]string{}, lastSequence: map[string]uint64{}, lastErr: map[string]error{},
		}
		b := groupcommit.New(context.Background(), groupcommit.Config[string]{
			Send: m.send, Settled: m.settled, MaxRecords: m.maxRecords, MaxBytes: m.maxBytes,
			MaxQueue: rapid.IntRange(1, 4).Draw(t, "maxQueue"),
		})
		subjects := rapid.IntRange(1, 3).Draw(t, "subjects")
		scripts := rapid.SliceOfN(rapid.SliceOfN(rapid.IntRange(0, 40), 0, 60), 1, 6).Draw(t, "sizes of each appender's records")
		early := rapid.Bool().Draw(t, "drain while they append")
		var taken [6]atomic.Int64
		var appending sync.WaitGroup
		for appender, sizes := range scripts {
			appending.Go(func() {
				for i, size := range sizes {
					text := fmt.Sprintf("%d %d %s", appender, i, strings.Repeat("x", size))
					err := b.Append(context.Background(), strconv.Itoa(i%subjects), []byte(text), text)
					if errors.Is(err, groupcommit.ErrClosed) && early {
						return
					}
					if err != nil {
						t.Errorf("append: %v", err)
					}
					taken[appender].Add(1)
				}
			})
		}
		if !early {
			appending.Wait()
		}
		if err := b.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		appending.Wait()
		check(t, m, taken[:], subjects)
	})
}

func check(t *rapid.T, m *model, taken []atomic.Int64, subjects int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, fault := range m.faults {
		t.Error(fault)
	}
	seen := make([]int64, len(taken))
	for subject, records := range m.sent {
		if !slices.Equal(records, m.told[subject]) {
			t.Errorf("%s: records %q, tags %q", subject, records, m.told[subject])
		}
		last := make([]int, len(taken))
		for i := range last {
			last[i] = -1
		}
		for _, record := range records {
			var appender, n int
			if _, err := fmt.Sscanf(record, "%d %d", &appender, &n); err != nil {
				t.Fatalf("record %q: %v", record, err)
			}
			if n <= last[appender] || strconv.Itoa(n%subjects) != subject {
				t.Errorf("subject %s, appender %d: record %d after %d", subject, appender, n, last[appender])
			}
			last[appender] = n
			seen[appender]++
		}
	}
	for appender := range taken {
		if seen[appender] != taken[appender].Load() {
			t.Errorf("appender %d: %d records arrived of %d that were taken", appender, seen[appender], taken[appender].Load())
		}
	}
}
