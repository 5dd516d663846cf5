// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var numbers = []Metric[int]{
	{Name: "assent_test_now", Help: "A number.", Type: prometheus.GaugeValue, Value: func(n int) float64 { return float64(n) }},
	{Name: "assent_test_fates_total", Help: "Its double, by fate.", Labels: prometheus.Labels{"fate": "double"}, Type: prometheus.CounterValue, Value: func(n int) float64 { return float64(2 * n) }},
	{Name: "assent_test_fates_total", Help: "Its double, by fate.", Labels: prometheus.Labels{"fate": "triple"}, Type: prometheus.CounterValue, Value: func(n int) float64 { return float64(3 * n) }},
}

func of(name string, n int) *Collector[int] { return New(name, Now(func() int { return n }), numbers) }

func gather(t *testing.T, c prometheus.Collector) error {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	_, err := registry.Gather()
	return err
}

// Participants of different names are told apart by their label, and two of the same are one too many.
func TestSeveral(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(of("a", 1), of("b", 2))
	if err := registry.Register(of("a", 3)); err == nil {
		t.Error("a second one of the same name is registered")
	}
	const want = `
# HELP assent_test_fates_total Its double, by fate.
# TYPE assent_test_fates_total counter
assent_test_fates_total{fate="double",participant="a"} 2
assent_test_fates_total{fate="double",participant="b"} 4
assent_test_fates_total{fate="triple",participant="a"} 3
assent_test_fates_total{fate="triple",participant="b"} 6
# HELP assent_test_now A number.
# TYPE assent_test_now gauge
assent_test_now{participant="a"} 1
assent_test_now{participant="b"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

// An error is told with the scrape, and no number beside it.
func TestAnErrorIsTold(t *testing.T) {
	down := errors.New("the database is down")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(of("b", 2), New("a", func(context.Context) (int, error) { return 7, down }, numbers))
	families, err := registry.Gather()
	if !errors.Is(err, down) || !strings.Contains(err.Error(), `participant="a"`) {
		t.Errorf("the error is %v", err)
	}
	for _, family := range families { // those of the other one, which a handler may give all the same
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetValue() == "a" {
					t.Errorf("%v", metric)
				}
			}
		}
	}
	if len(families) != 2 {
		t.Errorf("%d families, want the other one's 2", len(families))
	}
}

// Those who collect at once share a question; who comes after asks again.
func TestSharing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		c := New("a", func(context.Context) (int, error) {
			asked.Add(1)
			<-time.After(time.Second)
			return 1, nil
		}, numbers)
		for round := range int64(2) {
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					if err := gather(t, c); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := asked.Load(); n != round+1 {
				t.Errorf("after round %d it was asked %d times", round, n)
			}
		}
	})
}

// A database that does not answer is an error at the limit.
func TestNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := New("a", func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}, numbers), time.Now()
		if err := gather(t, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if took := time.Since(began); took != patience {
			t.Errorf("it took %v", took)
		}
	})
}

// A driver that does not listen to its context is not waited for, is not asked again while it hangs, and is heard when it answers.
func TestDeafDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		c := New("a", func(context.Context) (int, error) {
			asked.Add(1)
			<-time.After(10 * patience)
			return 1, nil
		}, numbers)
		for range 3 {
			began := time.Now()
			if err := gather(t, c); err == nil || !strings.Contains(err.Error(), "no answer within") {
				t.Errorf("the error is %v", err)
			}
			if took := time.Since(began); took != patience+grace {
				t.Errorf("it took %v", took)
			}
		}
		<-time.After(10*patience - 3*(patience+grace) - time.Second) // a second before it answers
		if err := gather(t, c); err != nil || asked.Load() != 1 {
			t.Errorf("%v, asked %d times", err, asked.Load())
		}
	})
}

func TestAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for since, want := range map[time.Time]float64{{}: 0, now: 0, now.Add(-90 * time.Second): 90, now.Add(time.Second): 0} {
			if got := Age(since); got != want {
				t.Errorf("%v: %v, want %v", since, got, want)
			}
		}
	})
}
