// SPDX-License-Identifier: Apache-2.0

package sqlstore_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"

	"github.com/assent-tx/assent/messages"
	"github.com/assent-tx/assent/participant"
)

// A store is a Prometheus collector. The handler's options have a scrape give all the other metrics when the database does not answer: the
// error is logged then, and counted.
func ExampleStore_Collect() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "assent")
	must(err)
	defer os.RemoveAll(dir)
	db := openDatabase(ctx, dir)
	store, err := openShop(ctx, db)
	must(err)

	registry := prometheus.NewRegistry() // a service has prometheus.DefaultRegisterer and prometheus.DefaultGatherer
	registry.MustRegister(store)
	log := logrus.New()
	metrics := promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, Registry: registry, ErrorLog: log})
	scrape := func() {
		response := httptest.NewRecorder()
		metrics.ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
		for line := range strings.Lines(response.Body.String()) {
			if strings.HasPrefix(line, "assent_sqlstore_in_doubt") || strings.HasPrefix(line, `promhttp_metric_handler_errors_total{cause="gathering"}`) {
				fmt.Print(line)
			}
		}
	}

	_, err = store.Prepare(ctx, &participant.Branch{ // what the SDK does
		Tx: messages.NewID(), Expires: time.Now().Add(time.Minute), Operations: []messages.Operation{{Payload: []byte(`{"sku":"widget","pieces":3}`)}},
	})
	must(err)
	scrape()
	must(db.Close())
	log.SetLevel(logrus.PanicLevel) // the example would rather not log
	scrape()
	scrape()
	// Output:
	// assent_sqlstore_in_doubt{participant="shop"} 1
	// promhttp_metric_handler_errors_total{cause="gathering"} 0
	// promhttp_metric_handler_errors_total{cause="gathering"} 0
	// promhttp_metric_handler_errors_total{cause="gathering"} 1
}
