package ccpayment

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/gateway"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// metrics has what is counted. It is made once and registered with every
// configuration, so that a reload does not begin at zero. No label has values that
// a buyer, a browser or the gateway could choose freely.
var metrics = newMetrics()

type metricSet struct {
	billsCreated     *prometheus.CounterVec
	billStatus       *prometheus.CounterVec
	callbacks        *prometheus.CounterVec
	gatewayRequest   *prometheus.HistogramVec
	deliveries       *prometheus.CounterVec
	deliveryDuration *prometheus.HistogramVec
	storeCommit      prometheus.Histogram
	sseClients       prometheus.Gauge
	queues           queueCollector
}

func newMetrics() *metricSet {
	const ns, sub = "caddy", "ccpayment"
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help, Buckets: buckets}
	}
	requests := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	commits := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(ns, sub, name), help, labels, nil)
	}
	return &metricSet{
		billsCreated: counter("bills_created_total", "Requests for a bill, by what came of them.", "account", "result"),
		billStatus:   counter("bill_status_total", "Bills that came into a status.", "account", "status"),
		callbacks:    counter("callbacks_total", "Callbacks of the gateway, by what became of them.", "account", "kind", "result"),
		gatewayRequest: prometheus.NewHistogramVec(seconds("gateway_request_duration_seconds",
			"Time of a request to the gateway with its answer.", requests), []string{"account", "endpoint", "result"}),
		deliveries: counter("deliveries_total", "Tries to deliver an event, by outcome.", "upstream", "result"),
		deliveryDuration: prometheus.NewHistogramVec(seconds("delivery_duration_seconds",
			"Time of a try to deliver an event.", requests), []string{"upstream"}),
		storeCommit: prometheus.NewHistogram(seconds("store_commit_duration_seconds",
			"Time of a commit with the operations in it, until it is on disk.", commits)),
		sseClients: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "sse_clients", Help: "Pages that follow a bill at present.",
		}),
		queues: queueCollector{
			pending:    gauge("deliveries_pending", "Deliveries that wait for their upstream.", "upstream"),
			dead:       gauge("deliveries_dead", "Deliveries that were given up and can be retried.", "upstream"),
			oldest:     gauge("oldest_pending_delivery_seconds", "Age of the oldest delivery that waits.", "upstream"),
			unresolved: gauge("inbox_unresolved", "Callbacks that are stored and not applied to their bills yet."),
		},
	}
}

// register adds everything to the registry of a configuration. That a second handler
// or app finds it there already is no error.
func (m *metricSet) register(reg prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		m.billsCreated, m.billStatus, m.callbacks, m.gatewayRequest, m.deliveries, m.deliveryDuration, m.storeCommit, m.sseClients, m.queues,
	} {
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// observeGateway is the observer of an account's client. Endpoints are told by their
// path, of which there are only those the client knows.
func observeGateway(account string) gateway.Observer {
	return func(endpoint, result string, took time.Duration) {
		metrics.gatewayRequest.WithLabelValues(account, strings.TrimPrefix(endpoint, "/"), result).Observe(took.Seconds())
	}
}

// observeTry is the observer of the forwarder.
func observeTry(upstream, result string, took time.Duration) {
	metrics.deliveries.WithLabelValues(upstream, result).Inc()
	metrics.deliveryDuration.WithLabelValues(upstream).Observe(took.Seconds())
}

// observeStore is the observer of a store.
func observeStore(told func(store.Event)) store.Observer {
	return store.Observer{
		Committed: func(took time.Duration) { metrics.storeCommit.Observe(took.Seconds()) },
		Changed: func(account string, status bill.Status) {
			metrics.billStatus.WithLabelValues(account, string(status)).Inc()
		},
		Told: told,
	}
}

// queueCollector reads the state of the queues from the store when it is asked, so
// that it is right after a restart too.
type queueCollector struct{ pending, dead, oldest, unresolved *prometheus.Desc }

// scrapeTimeout bounds the queries of one scrape.
const scrapeTimeout = 5 * time.Second

// Describe implements prometheus.Collector.
func (c queueCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.pending, c.dead, c.oldest, c.unresolved} {
		ch <- d
	}
}

// Collect implements prometheus.Collector. Without a store there is nothing to tell.
func (c queueCollector) Collect(ch chan<- prometheus.Metric) {
	a := currentApp()
	if a == nil {
		return
	}
	s, err := a.store()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if counts, err := s.CountUnresolved(ctx); err == nil {
		gauge(c.unresolved, float64(counts[store.Received]+counts[store.Asking]+counts[store.Quarantined]))
	}
	queues, err := s.Queues(ctx)
	if err != nil {
		return
	}
	// An upstream whose queue is empty is told too, or an alert could not tell that
	// from one that is not there. Accounts may share the name of an upstream.
	byName := make(map[string]store.Queue)
	for _, u := range a.upstreams {
		byName[u.Name] = store.Queue{}
	}
	for _, q := range queues {
		sum := byName[q.Upstream]
		sum.Pending += q.Pending
		sum.Dead += q.Dead
		if !q.Oldest.IsZero() && (sum.Oldest.IsZero() || q.Oldest.Before(sum.Oldest)) {
			sum.Oldest = q.Oldest
		}
		byName[q.Upstream] = sum
	}
	for name, q := range byName {
		gauge(c.pending, float64(q.Pending), name)
		gauge(c.dead, float64(q.Dead), name)
		age := time.Duration(0)
		if !q.Oldest.IsZero() {
			age = max(now().Sub(q.Oldest), 0)
		}
		gauge(c.oldest, age.Seconds(), name)
	}
}
