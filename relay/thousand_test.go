package relay_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// Many clients at once on one gateway, each with its own conversation: nothing is lost, repeated, out of order or
// somebody else's, and TestMain finds no goroutine after the drain. The number of clients depends on the race detector.
func TestThousandClients(t *testing.T) {
	const messages = 10
	r := newRig(t, rigOptions{
		hosts:   1,
		network: localnet.Options{Latency: 200 * time.Millisecond},
		// On a machine that is busy with other tests a pong may take longer than 10 s; liveness is tested elsewhere.
		config: func(c *relay.Config) { c.PingInterval, c.PongTimeout = 10*time.Minute, 5*time.Minute },
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()

	clients := make([]*client.Client, manyClients)
	heard := make([]atomic.Int64, manyClients)
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
	if n := len(r.cdk.Clients()); n != manyClients {
		t.Errorf("the canister has %d clients, want %d", n, manyClients)
	}
	for i, c := range clients {
		wg.Go(func() {
			for n := range messages {
				if err := c.Send(ctx, fmt.Appendf(nil, "client %d message %d", i, n)); err != nil {
					t.Errorf("client %d message %d: %v", i, n, err)
					return
				}
			}
			for heard[i].Load() < messages && c.Err() == nil && ctx.Err() == nil {
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	for i, c := range clients {
		if n := heard[i].Load(); n != messages || c.Err() != nil {
			t.Errorf("client %d got %d of %d echoes, session: %v", i, n, messages, c.Err())
		}
	}
	for _, c := range clients {
		wg.Go(func() { c.Close() })
	}
	wg.Wait()
	r.waitFor("the canister forgets all clients", func() bool { return len(r.cdk.Clients()) == 0 })
}
