package relay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// A client that has gone holds no place, and what it sent arrives all the same.
func TestPlaceIsFreeWhileMessagesAreUnderWay(t *testing.T) {
	inBubble(t, rigOptions{
		network: localnet.Options{Latency: 2 * time.Second},
		policy:  func(p *relay.Policy) { p.MaxSessionsPerIP, p.MaxSessions = 1, 1 },
	}, func(t *testing.T, r *rig) {
		c := r.open()
		sent := countCalls(r, "ws_message")
		for range 3 {
			if err := c.Send(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		time.Sleep(100 * time.Millisecond)
		if n := r.gateway.Departing(); n != 1 {
			t.Errorf("%d sessions are departing, want the one whose messages are under way", n)
		}
		r.raw(r.options())
		time.Sleep(10 * time.Second)
		if n := sent(); n != 3 {
			t.Errorf("%d messages arrived, want 3", n)
		}
		if n := r.gateway.Departing(); n != 0 {
			t.Errorf("%d sessions are departing when nothing is under way", n)
		}
	})
}

// countCalls counts the calls of a method from now on, each once.
func countCalls(r *rig, method string) func() int {
	var mu sync.Mutex
	seen := make(map[[32]byte]bool)
	r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
		if q.Method == method {
			mu.Lock()
			seen[q.ID] = true
			mu.Unlock()
		}
		return f
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
}

// One person reloads the page again and again while the network hangs.
func TestReloadsWhileTheNetworkHangs(t *testing.T) {
	inBubble(t, rigOptions{policy: func(p *relay.Policy) { p.MaxSessionsPerIP = 2 }}, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Endpoint == "call" {
				f.Delay = time.Hour
			}
			return f
		})
		for i := range 30 {
			raw, err := client.DialRaw(t.Context(), r.url, r.options())
			if err != nil {
				t.Fatalf("reload %d, with no other session alive: %v", i, err)
			}
			frame, err := raw.Composer().Open(raw.Gateway(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Write(t.Context(), websocket.BinaryMessage, frame); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			raw.Close()
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// The sessions that depart are bounded. The oldest is given up first, and its canister is told once it answers again.
func TestDepartingSessionsAreBounded(t *testing.T) {
	const limit = 3
	inBubble(t, rigOptions{}, func(t *testing.T, r *rig) {
		r.gateway.SetMaxDeparting(limit)
		r.echo(r.open(), "the canister is polled")
		hang := localnet.Fault{ReplyDelay: time.Hour}
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			if q.Method == "ws_open" {
				return hang // executed, and nobody learns it
			}
			return f
		})
		for range 3 * limit {
			raw := r.openingRaw(r.options())
			time.Sleep(time.Second)
			raw.Close()
			time.Sleep(time.Second)
			if n := r.gateway.Departing(); n > limit {
				t.Fatalf("%d sessions are departing, want up to %d", n, limit)
			}
		}
		r.network.SetFaults(nil)
		time.Sleep(5 * time.Minute)
		if n := len(r.cdk.Clients()); n != 1 {
			t.Errorf("the canister still has %d clients, want the one that is here", n)
		}
	})
}

// Canisters that are only polled in case somebody comes back keep no others out.
func TestLingeringCanistersMakeRoom(t *testing.T) {
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.MaxCanisters = 2 },
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}, func(t *testing.T, r *rig) {
		dial := func() (*client.Client, error) {
			o := r.options()
			o.Canister = r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
			return client.Dial(t.Context(), r.url, o)
		}
		for i := range 10 {
			c, err := dial()
			if err != nil {
				t.Fatalf("canister %d, with no session elsewhere: %v", i, err)
			}
			c.Close()
			time.Sleep(100 * time.Millisecond)
			if n := len(r.gateway.Snapshot().Canisters); n > 2 {
				t.Fatalf("%d canisters are polled, want 2 at most", n)
			}
		}
		r.echo(r.open(), "hi") // the oldest of the two that linger makes room
		second, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		defer second.Close()
		if _, err := dial(); err == nil {
			t.Error("a third canister is polled while two have sessions")
		}
	})
}
