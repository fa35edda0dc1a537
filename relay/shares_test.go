package relay_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
)

// What clients send has a rate of its own, so that a busy site is not held up by its polls. With the rates of a
// configuration that sets none, 500 messages a second all arrive, and none waits long.
func TestMessagesOfABusySite(t *testing.T) {
	clients, rounds := sized(250, 250, 50), sized(20, 8, 6)
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.UpstreamRate, c.UpstreamCallRate = 0, 0 },
		policy: func(p *relay.Policy) { p.MaxSessionsPerIP = 0 },
	}, func(t *testing.T, r *rig) {
		var longest atomic.Int64
		var wg sync.WaitGroup
		for i := range clients {
			c := r.open()
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				for n := range rounds {
					began := time.Now()
					r.echo(c, fmt.Sprint(n))
					longest.Store(max(longest.Load(), int64(time.Since(began))))
					time.Sleep(500*time.Millisecond - time.Since(began)%(500*time.Millisecond))
				}
			})
		}
		wg.Wait()
		if got := time.Duration(longest.Load()); got > time.Second {
			t.Errorf("an echo took %s", got)
		}
	})
}

// A gateway refuses canisters that it could not poll as often as clients need it, and says why.
func TestCanistersBeyondTheRate(t *testing.T) {
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.UpstreamRate = 1 }, // enough for 5 canisters
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}, func(t *testing.T, r *rig) {
		for range 5 {
			o := r.options()
			o.Canister = r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
			c, err := client.Dial(t.Context(), r.url, o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		_, err := client.Dial(t.Context(), r.url, r.options())
		var ce *client.CloseError
		if !errors.As(err, &ce) || ce.Code != 1013 || !strings.Contains(ce.Text, "upstream_rate") {
			t.Errorf("the sixth canister: %v, want 1013 and the setting", err)
		}
	})
}

// Canisters without sessions make room where upstream_rate is the limit, too.
func TestLingeringCanistersMakeRoomInTheRate(t *testing.T) {
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.UpstreamRate = 1 }, // enough for 5 canisters
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}, func(t *testing.T, r *rig) {
		for range 5 {
			o := r.options()
			o.Canister = r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
			r.openingRaw(o).Close()
		}
		time.Sleep(time.Second)
		if n := len(r.gateway.Snapshot().Canisters); n != 5 {
			t.Fatalf("%d canisters are polled, want 5", n)
		}
		r.echo(r.open(), "hi")
		if n := len(r.gateway.Snapshot().Canisters); n > 5 {
			t.Errorf("%d canisters are polled, want 5 at most", n)
		}
	})
}

// Canisters that are given up for others wait for upstream_rate no longer: who names many and leaves holds nobody up.
func TestDisplacedCanistersAskForNothing(t *testing.T) {
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.UpstreamRate = 2 }, // enough for 10 canisters
		policy: func(p *relay.Policy) { p.AnyCanister = true },
	}, func(t *testing.T, r *rig) {
		honest := r.open()
		for range 200 {
			o := r.options()
			o.Canister = r.network.Install(localnet.NewCDK(localnet.CDKOptions{}))
			r.openingRaw(o).Close()
			time.Sleep(20 * time.Millisecond)
		}
		began := time.Now()
		r.echo(honest, "hi")
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("an echo took %s", took)
		}
		began = time.Now()
		r.open()
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("a session took %s to open", took)
		}
	})
}
