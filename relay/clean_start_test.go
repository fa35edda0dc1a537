package relay_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
)

// A run that told the canister of all its clients says so, and the next one closes nothing again. One that could not says so, too,
// and what it left is closed.
func TestAfterACleanStopNothingIsClosedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		fault localnet.Fault // of ws_close during the drain
		told  bool
		again int64 // ws_close calls of the next run
	}{
		"clean":         {localnet.Fault{}, true, 0},
		"not reachable": {localnet.Fault{Drop: true}, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var cfg relay.Config
			inBubble(t, rigOptions{config: func(c *relay.Config) {
				id, err := identity.NewRandomEd25519Identity()
				if err != nil {
					t.Fatal(err)
				}
				c.Identity = id
				cfg = *c
			}}, func(t *testing.T, r *rig) {
				var fault atomic.Pointer[localnet.Fault]
				var closes atomic.Int64
				r.network.SetFaults(func(q *localnet.Request) localnet.Fault {
					if q.Endpoint != "call" || q.Method != "ws_close" {
						return localnet.Fault{}
					}
					closes.Add(1)
					return *fault.Load()
				})
				fault.Store(&tt.fault)
				for range 3 {
					r.echo(r.open(), "hi")
				}
				if told := r.gateway.Drain(context.Background(), relay.Draining); told != tt.told {
					t.Fatalf("the drain says %v", told)
				}
				fault.Store(new(localnet.Fault))
				closes.Store(0)
				cfg.CleanStart = tt.told
				next := r.another(cfg)
				next.echo(next.open(), "hi")
				time.Sleep(time.Minute)
				if n := closes.Load(); n != tt.again {
					t.Errorf("%d calls, want %d", n, tt.again)
				}
				if n := len(r.cdk.Clients()); n != 1 {
					t.Errorf("the canister has %d clients", n)
				}
				if next.logged("an earlier run") != (tt.again > 0) {
					t.Error("the log says otherwise")
				}
			})
		})
	}
}
