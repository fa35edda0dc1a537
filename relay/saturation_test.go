package relay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// When upstream_rate is the bottleneck, each of the few requests there are brings a page: none is spent on asking again
// for what was asked for before.
func TestSaturatedBudgetIsSpentOnNews(t *testing.T) {
	const pages, rate = 20, 5
	inBubble(t, rigOptions{
		cdk:    localnet.CDKOptions{MaxMessages: 1},
		config: func(c *relay.Config) { c.UpstreamRate = rate },
	}, func(t *testing.T, r *rig) {
		c := r.open()
		time.Sleep(10 * time.Second)
		began := time.Now()
		r.cdk.Do(func(ctx *localnet.AppContext) {
			for i := range pages {
				ctx.Send(c.Key().Principal, fmt.Append(nil, i))
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		for i := range pages {
			if m, err := c.Receive(ctx); err != nil || string(m.Payload) != fmt.Sprint(i) {
				t.Fatalf("message %d: %q, %v", i, m.Payload, err)
			}
		}
		if took, limit := time.Since(began), 2*pages*time.Second/rate; took > limit {
			t.Errorf("%d pages at %d requests a second took %s, want %s at most", pages, rate, took, limit)
		}
	})
}

// A look at whether the queue began anew may hang like any other request; messages do not wait for it.
func TestHangingChecksHoldUpNobody(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Nodes: 4}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		var polls atomic.Int64
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" && polls.Add(1)%8 == 0 {
				f.Delay = 9 * time.Second
			}
			return f
		})
		var worst time.Duration
		for i := range 40 {
			time.Sleep(20*time.Second + time.Duration(i)*100*time.Millisecond)
			began := time.Now()
			r.echo(c, fmt.Sprint(i))
			worst = max(worst, time.Since(began))
		}
		if worst > 2*time.Second {
			t.Errorf("one echo took %s", worst)
		}
	})
}
