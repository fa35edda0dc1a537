package caddymodule

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

// gatewayCollector reads what gateways know about themselves when metrics are collected.
type gatewayCollector struct {
	gateways  *prometheus.Desc
	canisters *prometheus.Desc
	cache     *prometheus.Desc

	mu      sync.Mutex
	retired verify.AuthorityStats // of gateways that have ended, so that counters never go down
}

func newGatewayCollector() *gatewayCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(metricsNamespace, metricsSubsystem, name), help, labels, nil)
	}
	return &gatewayCollector{
		gateways:  desc("gateways", "Number of gateways by state.", "state"),
		canisters: desc("canisters", "Number of canisters that are being polled."),
		cache:     desc("verification_cache_lookups_total", "Counter of lookups in the caches of verified certificates (root) and delegations.", "cache", "result"),
	}
}

// Describe implements prometheus.Collector.
func (c *gatewayCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.gateways
	out <- c.canisters
	out <- c.cache
}

// Collect implements prometheus.Collector.
func (c *gatewayCollector) Collect(out chan<- prometheus.Metric) {
	var active, draining, canisters int
	// A gateway leaves the registry and enters the retired sum under the same lock, so that it is counted once.
	c.mu.Lock()
	stats := c.retired
	for _, p := range live.snapshot() {
		if p.isDraining() {
			draining++
		} else {
			active++
		}
		snapshot := p.gateway.Snapshot()
		canisters += len(snapshot.Canisters)
		stats = addStats(stats, snapshot.Caches)
	}
	c.mu.Unlock()

	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(c.gateways, active, "active")
	gauge(c.gateways, draining, "draining")
	gauge(c.canisters, canisters)
	count := func(value uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(c.cache, prometheus.CounterValue, float64(value), labels...)
	}
	count(stats.RootHits, "root", "hit")
	count(stats.RootMisses, "root", "miss")
	count(stats.DelegationHits, "delegation", "hit")
	count(stats.DelegationMisses, "delegation", "miss")
}

// retire takes p off the live gateways and keeps what it has counted.
func (c *gatewayCollector) retire(p *pooled) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = addStats(c.retired, p.gateway.Snapshot().Caches)
	live.remove(p)
}

func addStats(a, b verify.AuthorityStats) verify.AuthorityStats {
	return verify.AuthorityStats{
		RootHits:         a.RootHits + b.RootHits,
		RootMisses:       a.RootMisses + b.RootMisses,
		DelegationHits:   a.DelegationHits + b.DelegationHits,
		DelegationMisses: a.DelegationMisses + b.DelegationMisses,
	}
}

// Interface guards
var (
	_ prometheus.Collector = (*gatewayCollector)(nil)
	_ relay.Metrics        = (*gatewayMetrics)(nil)
)
