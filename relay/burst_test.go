package relay_test

import (
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// An ack tick fills 200 pages at one instant, and every client answers it by a call. With the usual upstream_rate and the
// latencies of mainnet, all of that is done before the canister looks for the answers 60 s later, so that it keeps
// everybody. One message a page stands for 50.
func TestAckTickOfTwoHundredPages(t *testing.T) {
	clients := sized(200, 200, 60)
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: 1500 * time.Millisecond},
		cdk:     localnet.CDKOptions{MaxMessages: 1},
		config:  func(c *relay.Config) { c.UpstreamRate = relay.DefaultUpstreamRate },
	}, func(t *testing.T, r *rig) {
		all := make([]*client.Client, clients)
		for i := range all {
			o := r.options()
			o.AckTimeout = 0 // the SDK's
			c, err := client.Dial(t.Context(), r.url, o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			all[i] = c
		}
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "query" {
				f.ReplyDelay = 150 * time.Millisecond
			}
			return f
		})
		time.Sleep(7 * time.Minute) // a tick, and the look at who has answered
		for i, c := range all {
			if err := c.Err(); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}
		if n := len(r.cdk.Clients()); n != clients {
			t.Errorf("the canister has %d clients, want %d", n, clients)
		}
	})
}
