package relay_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Many clients at once on one gateway, each with its own conversation: nothing is lost, repeated, out of order or
// somebody else's, and nothing is left after the drain. How many they are depends on the build, see sized.
func TestThousandClients(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: 200 * time.Millisecond}}, func(t *testing.T, r *rig) {
		converse(t, r, sized(1000, 150, 60), 10)
	})
}

// A few of them over sockets on both sides, and in real time.
func TestOverSockets(t *testing.T) {
	converse(t, newRig(t, rigOptions{hosts: 2, network: localnet.Options{Latency: 20 * time.Millisecond}}), 20, 5)
}

// converse has so many clients send so many messages each, and checks what comes back.
func converse(t *testing.T, r *rig, many, messages int) {
	ctx := t.Context()
	clients := make([]*client.Client, many)
	heard := make([]atomic.Int64, many)
	var wrong atomic.Int64
	var wg sync.WaitGroup
	dialing := make(chan struct{}, 64) // openings under way at once
	for i := range clients {
		wg.Go(func() {
			dialing <- struct{}{}
			defer func() { <-dialing }()
			o := r.options()
			o.OnMessage = func(m client.Message) {
				if want := fmt.Sprintf("client %d message %d", i, heard[i].Load()); string(m.Payload) != want {
					wrong.Add(1)
					t.Errorf("client %d got %q, want %q", i, m.Payload, want)
				}
				heard[i].Add(1)
			}
			c, err := client.Dial(ctx, r.url, o)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			clients[i] = c
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if n := len(r.cdk.Clients()); n != many {
		t.Errorf("the canister has %d clients, want %d", n, many)
	}
	for i, c := range clients {
		wg.Go(func() {
			for n := range messages {
				if err := c.Send(ctx, fmt.Appendf(nil, "client %d message %d", i, n)); err != nil {
					t.Errorf("client %d message %d: %v", i, n, err)
					return
				}
			}
			for heard[i].Load() < int64(messages) && c.Err() == nil && ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	for i, c := range clients {
		if n := heard[i].Load(); n != int64(messages) || c.Err() != nil {
			t.Errorf("client %d got %d of %d echoes, session: %v", i, n, messages, c.Err())
		}
	}
	for _, c := range clients {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
	r.waitFor("the canister forgets all clients", func() bool { return len(r.cdk.Clients()) == 0 })
}
