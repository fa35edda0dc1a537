package relay_test

import (
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// A host that asks to be left alone for an hour is left alone for a while: an envelope lives for four minutes. If there is
// another host, nobody waits for that.
func TestRetryAfterDoesNotCostTheMessage(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string][]string{"one host": {"a.test"}, "two hosts": {"a.test", "b.test"}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{config: func(c *relay.Config) {
				c.Hosts = nil
				for _, h := range hosts {
					c.Hosts = append(c.Hosts, &url.URL{Scheme: "http", Host: h})
				}
			}}, func(t *testing.T, r *rig) {
				c := r.open()
				var calls atomic.Int64
				r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "call" && calls.Add(1) <= int64(len(hosts)) {
						f.Status, f.RetryAfter = 503, time.Hour
					}
					return f
				})
				began := time.Now()
				r.echo(c, "hi")
				limit := 35 * time.Second
				if len(hosts) > 1 {
					limit = 2 * time.Second
				}
				if took := time.Since(began); took > limit {
					t.Errorf("the echo took %s", took)
				}
			})
		})
	}
}
