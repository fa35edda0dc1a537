package relay_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// What is being read of the network's state when a gateway ends does not hold the end up, and nothing of it is left: the
// bubble would not end.
func TestGatewayEndsWhileStateIsRead(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]rigOptions{
		"boundary nodes": discovering(),
		"install time":   {network: localnet.Options{Nodes: 4}},
		"delegation":     {network: localnet.Options{ShardedOnly: true}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, o, func(t *testing.T, r *rig) {
				r.network.SetBoundaryNodes("slow.icp.example")
				fault := func(q *localnet.Request) (f localnet.Fault) {
					if q.Endpoint == "read_state" || strings.Contains(q.Boundary, "slow") {
						f.Delay = time.Hour
					}
					return f
				}
				if name == "boundary nodes" {
					r.network.SetFaults(fault)
				}
				c := r.open()
				r.echo(c, "hi")
				r.network.SetFaults(fault)
				switch name {
				case "install time":
					must(t, r.network.Upgrade(r.canister))
					c.Send(t.Context(), []byte("am I there"))
					time.Sleep(time.Second)
				case "delegation":
					time.Sleep(10*time.Minute + 2*time.Second)
					r.echo(c, "again")
				}
				began := time.Now()
				r.gateway.Drain(context.Background(), relay.Draining)
				if took := time.Since(began); took > 6*time.Second {
					t.Errorf("the drain took %s", took)
				}
			})
		})
	}
}
