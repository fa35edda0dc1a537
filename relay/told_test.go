package relay_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// mumbles is a canister whose answer to ws_close is none.
type mumbles struct{ localnet.Canister }

func (m mumbles) Update(env *localnet.Env, method string, arg []byte) ([]byte, error) {
	if method == "ws_close" {
		return []byte("mumble"), nil
	}
	return m.Canister.Update(env, method, arg)
}

// The log counts as told only those sessions whose end the canister has answered for, and all others as not.
func TestDrainCountsWhoWasTold(t *testing.T) {
	for name, tt := range map[string]struct {
		cdk            localnet.CDKOptions
		spoil          func(r *rig)
		mumbles        bool
		told, notTold  int64
		abandonsClient bool // one client leaves long before the drain, which is none of its business
	}{
		"all":           {told: 3},
		"one before":    {told: 2, abandonsClient: true},
		"traps":         {cdk: localnet.CDKOptions{App: trapDoor{}}, notTold: 3},
		"out of cycles": {spoil: func(r *rig) { r.network.OutOfCycles(r.canister, true) }, notTold: 3},
		"mumbles":       {mumbles: true, notTold: 3},
		"unreachable": {spoil: func(r *rig) {
			r.network.SetFaults(func(q *localnet.Request) localnet.Fault { return localnet.Fault{Drop: q.Method == "ws_close"} })
		}, notTold: 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, rigOptions{cdk: tt.cdk}, func(t *testing.T, r *rig) {
				if tt.mumbles {
					r.canister = r.network.Install(mumbles{localnet.NewCDK(localnet.CDKOptions{})})
					r.policy.Canisters[r.canister] = struct{}{}
				}
				var clients []*client.Client
				for range 3 {
					clients = append(clients, r.open())
				}
				if tt.abandonsClient {
					clients[0].Close()
					time.Sleep(time.Minute)
				}
				if tt.spoil != nil {
					tt.spoil(r)
				}
				all := r.gateway.Drain(context.Background(), relay.Draining)
				if all != (tt.notTold == 0) {
					t.Errorf("the drain says %v", all)
				}
				want := map[string]string{"drained": fmt.Sprint(map[string]any{"told": tt.told})}
				if tt.notTold > 0 {
					want = map[string]string{"canisters were not told of all closed sessions, they will notice by themselves": fmt.Sprint(map[string]any{"told": tt.told, "not_told": tt.notTold})}
				}
				got := map[string]string{}
				for _, line := range r.logs.All() {
					if fields := line.ContextMap(); fields["told"] != nil {
						got[line.Message] = fmt.Sprint(fields)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("the log says %v, want %v", got, want)
				}
			})
		})
	}
}
