package relay_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

func TestEcho(t *testing.T) {
	r := newRig(t, rigOptions{})
	c := r.open()
	for i := range 20 {
		r.echo(c, fmt.Sprintf("message %d", i))
	}
}

func TestTwoClientsGetOnlyTheirOwn(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		a, b := r.open(), r.open()
		for i := range 10 {
			r.echo(a, fmt.Sprintf("a %d", i))
			r.echo(b, fmt.Sprintf("b %d", i))
		}
	})
}

// With 1 s an update, messages that are submitted together execute in any order, and the canister drops the client on
// the first that is out of order.
func TestFastSenderOnASlowNetworkKeepsOrder(t *testing.T) {
	inBubble(t, rigOptions{network: localnet.Options{Latency: time.Second}}, func(t *testing.T, r *rig) {
		c := r.open()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		const n = 20
		for i := range n {
			if err := c.Send(ctx, fmt.Appendf(nil, "message %d", i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			m, err := c.Receive(ctx)
			if err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			if want := fmt.Sprintf("message %d", i); string(m.Payload) != want {
				t.Fatalf("got %q, want %q", m.Payload, want)
			}
		}
	})
}

func TestCloseReachesTheCanister(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		c := r.open()
		if n := len(r.cdk.Clients()); n != 1 {
			t.Fatalf("canister has %d clients, want 1", n)
		}
		c.Close()
		r.waitFor("the canister forgets the client", func() bool { return len(r.cdk.Clients()) == 0 })
	})
}

func TestDrainClosesAllAndTellsTheCanister(t *testing.T) {
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		var wg sync.WaitGroup
		for range 20 {
			c := r.open()
			wg.Go(func() {
				if ce := closeOf(t, c); ce.Code != 1001 {
					t.Errorf("closed with %d %q, want 1001", ce.Code, ce.Text)
				}
			})
		}
		r.gateway.Drain(t.Context(), relay.Draining)
		wg.Wait()
		if n := len(r.cdk.Clients()); n != 0 {
			t.Errorf("canister still has %d clients", n)
		}
	})
}

// What strict order is for: the same messages under way together lose the session, because the network executes them in
// any order. relay_window above 1 is for canisters that do not mind.
func TestConcurrentSubmissionLosesTheSession(t *testing.T) {
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: time.Second},
		config:  func(c *relay.Config) { c.RelayWindow = 20 },
	}, func(t *testing.T, r *rig) {
		c := r.open()
		for i := range 20 {
			if err := c.Send(t.Context(), fmt.Appendf(nil, "message %d", i)); err != nil {
				break
			}
		}
		// Which of the canister's errors comes first is a matter of chance.
		if ce := closeOf(t, c); ce.Code != 1011 && ce.Code != 1012 && ce.Code != client.CodeProtocol {
			t.Errorf("the session ended with %v", ce)
		}
		if clients := r.cdk.Clients(); len(clients) != 0 {
			t.Errorf("the canister still has the client: the order was kept by chance, so this shows nothing")
		}
	})
}
