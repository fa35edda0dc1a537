package caddymodule

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

const (
	metricsNamespace = "caddy"
	metricsSubsystem = "icws"

	// otherCanister is the label of canisters that no configuration names, which clients of `canister any` choose.
	otherCanister = "_other"
)

// collectors are the metrics of all gateways of this process. Caddy makes a new registry for each configuration; the
// collectors are made once and registered with each of them, so that counters continue across reloads.
type collectors struct {
	sessions     prometheus.Gauge
	opened       *prometheus.CounterVec   // canister
	openTime     *prometheus.HistogramVec // canister
	closed       *prometheus.CounterVec   // canister, reason
	sessionTime  prometheus.Histogram
	refusals     *prometheus.CounterVec   // limit
	messages     *prometheus.CounterVec   // canister, direction
	bytes        *prometheus.CounterVec   // canister, direction
	age          *prometheus.HistogramVec // canister
	relayTime    *prometheus.HistogramVec // canister, outcome
	pollTime     *prometheus.HistogramVec // canister, outcome
	pollMessages prometheus.Histogram
	lag          *prometheus.HistogramVec // canister
	upstream     *prometheus.HistogramVec // host, endpoint, outcome
	unverified   *prometheus.CounterVec   // canister, cause
	resets       *prometheus.CounterVec   // canister
	budgetWait   prometheus.Histogram

	gateways *gatewayCollector
}

// Buckets in seconds. The network answers queries in 10 ms to 1 s and finishes updates in 1 to 20 s; sessions last up to days.
var (
	fastBuckets    = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	slowBuckets    = []float64{.1, .25, .5, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 30, 60, 120, 240}
	sessionBuckets = []float64{1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600}
)

// theCollectors makes the collectors on first use.
var theCollectors = sync.OnceValue(func() *collectors {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help,
		}, labels)
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, Buckets: buckets,
		}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: name, Help: help, Buckets: buckets,
		})
	}
	return &collectors{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: metricsNamespace, Subsystem: metricsSubsystem, Name: "sessions",
			Help: "Number of connected clients.",
		}),
		opened:       counter("session_opens_total", "Counter of sessions whose first canister message was delivered.", "canister"),
		openTime:     histograms("session_open_duration_seconds", "Histogram of the time from the upgrade to the first canister message.", slowBuckets, "canister"),
		closed:       counter("session_closes_total", "Counter of ended sessions by reason.", "canister", "reason"),
		sessionTime:  histogram("session_duration_seconds", "Histogram of how long ended sessions lasted.", sessionBuckets),
		refusals:     counter("refused_openings_total", "Counter of WebSocket openings that were refused before the upgrade, by limit or cause.", "limit"),
		messages:     counter("messages_total", "Counter of relayed messages: up from clients to canisters, down from canisters to clients.", "canister", "direction"),
		bytes:        counter("message_bytes_total", "Counter of the bytes of relayed messages as they are on the WebSocket.", "canister", "direction"),
		age:          histograms("delivery_age_seconds", "Histogram of the time from a canister's making of a message to its delivery.", slowBuckets, "canister"),
		relayTime:    histograms("relay_duration_seconds", "Histogram of the time from a client's message to its certified outcome.", slowBuckets, "canister", "outcome"),
		pollTime:     histograms("poll_duration_seconds", "Histogram of the time of one poll of a canister.", fastBuckets, "canister", "outcome"),
		pollMessages: histogram("poll_messages", "Histogram of the messages that polls with messages brought.", []float64{1, 2, 5, 10, 20, 30, 40, 50, 100}),
		lag:          histograms("poll_lag_seconds", "Histogram of the age of the certificates that came with messages.", fastBuckets, "canister"),
		upstream:     histograms("upstream_request_duration_seconds", "Histogram of the time of HTTP requests to boundary nodes.", slowBuckets, "host", "endpoint", "outcome"),
		unverified:   counter("verification_failures_total", "Counter of answers that failed verification and were discarded, by cause.", "canister", "cause"),
		resets:       counter("queue_resets_total", "Counter of canister queues that were found to have started again, as after an upgrade.", "canister"),
		budgetWait:   histogram("budget_wait_seconds", "Histogram of the time that requests waited for upstream_rate or upstream_call_rate.", fastBuckets),
		gateways:     newGatewayCollector(),
	}
})

// all lists the collectors.
func (c *collectors) all() []prometheus.Collector {
	return []prometheus.Collector{
		c.sessions, c.opened, c.openTime, c.closed, c.sessionTime, c.refusals, c.messages, c.bytes, c.age, c.relayTime,
		c.pollTime, c.pollMessages, c.lag, c.upstream, c.unverified, c.resets, c.budgetWait, c.gateways,
	}
}

// registerCollectors makes the metrics part of a configuration's registry. A second handler of the same configuration
// finds them there already.
func registerCollectors(registry *prometheus.Registry) (*collectors, error) {
	c := theCollectors()
	if registry == nil {
		return c, nil
	}
	for _, collector := range c.all() {
		var already prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &already) {
			return nil, err
		}
	}
	return c, nil
}

// refused counts an opening that was refused.
func (c *collectors) refused(limit string) { c.refusals.WithLabelValues(limit).Inc() }

// gatewayMetrics counts for one gateway. Canisters that a configuration names have a label value of their own.
type gatewayMetrics struct {
	*collectors
	canisters atomic.Pointer[map[verify.Principal]*canisterMetrics]
	other     *canisterMetrics // of all that no configuration names
	hosts     hostLabels
}

// maxHostLabels bounds the hosts of one gateway with a label value of their own: those of the configuration, and as many that
// the network lists as a gateway uses at a time. Over the years others may take their places.
const maxHostLabels = maxHosts + 64

// hostLabels gives hosts their label values, first come, first served.
type hostLabels struct {
	mu    sync.RWMutex
	named map[string]struct{}
}

// label returns the label value of host.
func (l *hostLabels) label(host string) string {
	l.mu.RLock()
	_, named := l.named[host]
	l.mu.RUnlock()
	if named {
		return host
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, named := l.named[host]; !named && len(l.named) >= maxHostLabels {
		return "_other"
	}
	l.named[host] = struct{}{}
	return host
}

func newGatewayMetrics(cfg *relay.Config) *gatewayMetrics {
	m := &gatewayMetrics{collectors: theCollectors(), hosts: hostLabels{named: make(map[string]struct{})}}
	for _, u := range cfg.Hosts {
		m.hosts.label(u.Host)
	}
	m.canisters.Store(new(map[verify.Principal]*canisterMetrics))
	m.other = m.newCanister(otherCanister)
	return m
}

// canisterMetrics is what is counted for each message of a canister. Looking series up by their labels takes longer than counting.
type canisterMetrics struct {
	label    string
	up, down func() traffic // not made before the first message: a series of zeros would be told for it
	age      func() prometheus.Observer
}

// traffic is one direction of a canister's messages.
type traffic struct{ messages, bytes prometheus.Counter }

func (t traffic) count(bytes int) {
	t.messages.Inc()
	t.bytes.Add(float64(bytes))
}

func (c *collectors) newCanister(label string) *canisterMetrics {
	direction := func(name string) func() traffic {
		return sync.OnceValue(func() traffic {
			return traffic{c.messages.WithLabelValues(label, name), c.bytes.WithLabelValues(label, name)}
		})
	}
	return &canisterMetrics{
		label: label, up: direction("up"), down: direction("down"),
		age: sync.OnceValue(func() prometheus.Observer { return c.age.WithLabelValues(label) }),
	}
}

// setCanisters replaces the canisters that have a label of their own.
func (m *gatewayMetrics) setCanisters(ids map[verify.Principal]struct{}) {
	named := make(map[verify.Principal]*canisterMetrics, len(ids))
	for id := range ids {
		named[id] = m.newCanister(id.String())
	}
	m.canisters.Store(&named)
}

func (m *gatewayMetrics) of(id verify.Principal) *canisterMetrics {
	if c, named := (*m.canisters.Load())[id]; named {
		return c
	}
	return m.other
}

// canister returns the label value of a canister.
func (m *gatewayMetrics) canister(id verify.Principal) string { return m.of(id).label }

// SessionStarted implements relay.Metrics.
func (m *gatewayMetrics) SessionStarted() { m.sessions.Inc() }

// SessionOpened implements relay.Metrics.
func (m *gatewayMetrics) SessionOpened(id verify.Principal, took time.Duration) {
	canister := m.canister(id)
	m.opened.WithLabelValues(canister).Inc()
	m.openTime.WithLabelValues(canister).Observe(took.Seconds())
}

// SessionClosed implements relay.Metrics.
func (m *gatewayMetrics) SessionClosed(id verify.Principal, reason relay.CloseReason, lasted time.Duration) {
	m.sessions.Dec()
	m.closed.WithLabelValues(m.canister(id), reason.Label()).Inc()
	m.sessionTime.Observe(lasted.Seconds())
}

// Received implements relay.Metrics.
func (m *gatewayMetrics) Received(id verify.Principal, bytes int) {
	m.of(id).up().count(bytes)
}

// Delivered implements relay.Metrics.
func (m *gatewayMetrics) Delivered(id verify.Principal, bytes int, age time.Duration) {
	c := m.of(id)
	c.down().count(bytes)
	c.age().Observe(age.Seconds())
}

// Relayed implements relay.Metrics.
func (m *gatewayMetrics) Relayed(id verify.Principal, outcome relay.Outcome, took time.Duration) {
	m.relayTime.WithLabelValues(m.canister(id), string(outcome)).Observe(took.Seconds())
}

// Polled implements relay.Metrics.
func (m *gatewayMetrics) Polled(id verify.Principal, outcome relay.Outcome, messages int, took, lag time.Duration) {
	canister := m.canister(id)
	m.pollTime.WithLabelValues(canister, string(outcome)).Observe(took.Seconds())
	if messages > 0 {
		m.pollMessages.Observe(float64(messages))
		m.lag.WithLabelValues(canister).Observe(lag.Seconds())
	}
}

// Upstream implements relay.Metrics.
func (m *gatewayMetrics) Upstream(host string, endpoint relay.Endpoint, outcome relay.Outcome, took time.Duration) {
	m.upstream.WithLabelValues(m.hosts.label(host), string(endpoint), string(outcome)).Observe(took.Seconds())
}

// VerificationFailed implements relay.Metrics.
func (m *gatewayMetrics) VerificationFailed(id verify.Principal, cause verify.Cause) {
	m.unverified.WithLabelValues(m.canister(id), string(cause)).Inc()
}

// QueueReset implements relay.Metrics.
func (m *gatewayMetrics) QueueReset(id verify.Principal) {
	m.resets.WithLabelValues(m.canister(id)).Inc()
}

// BudgetWait implements relay.Metrics.
func (m *gatewayMetrics) BudgetWait(waited time.Duration) { m.budgetWait.Observe(waited.Seconds()) }
