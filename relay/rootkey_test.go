package relay_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// restartable is a network that can be started anew, as another one with another root key.
type restartable struct {
	present atomic.Pointer[http.RoundTripper]
}

func (n *restartable) RoundTrip(r *http.Request) (*http.Response, error) {
	return (*n.present.Load()).RoundTrip(r)
}

// A local network is started anew under a gateway that fetches the root key: its clients connect soon.
func TestNetworkStartedAnew(t *testing.T) {
	t.Parallel()
	for name, network := range map[string]localnet.Options{
		"one node":      {},
		"takes time":    {Latency: time.Second},
		"no delegation": {NoDelegation: true},
		"old":           {V2Only: true},
		"new":           {V3Only: true},
	} {
		t.Run(name, func(t *testing.T) {
			var over restartable
			inBubble(t, rigOptions{network: network, config: func(c *relay.Config) {
				c.RootKey, c.FetchRootKey = nil, true
				first := c.Transport
				over.present.Store(&first)
				c.Transport = &over
			}}, func(t *testing.T, r *rig) {
				options := func(authority *verify.Authority) client.Options {
					o := r.options()
					o.Authority, o.AllowSharded = authority, network.V3Only
					return o
				}
				c := r.openWith(options(r.authority))
				r.echo(c, "hi")

				anew := network
				anew.Seed = 7
				other, err := localnet.New(anew)
				must(t, err)
				defer other.Close()
				r.canister = other.Install(localnet.NewCDK(localnet.CDKOptions{}))
				r.policy.Canisters[r.canister] = struct{}{}
				authority, err := verify.NewAuthority(other.RootKey())
				must(t, err)
				transport := other.RoundTripper()
				over.present.Store(&transport)

				began := time.Now()
				n := r.openWith(options(authority))
				r.echo(n, "hello again")
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("a client waited %s for the new network", took)
				}
				if !r.logged("another root key") {
					t.Error("the log does not say so")
				}
			})
		})
	}
}

// The same where nobody is left but clients whose signatures are certified by the new network.
func TestNetworkStartedAnewForCertifiedSenders(t *testing.T) {
	var over restartable
	inBubble(t, rigOptions{config: func(c *relay.Config) {
		c.RootKey, c.FetchRootKey = nil, true
		first := c.Transport
		over.present.Store(&first)
		c.Transport = &over
	}}, func(t *testing.T, r *rig) {
		c := r.open()
		r.echo(c, "hi")
		c.Close()
		time.Sleep(10 * time.Minute) // the canister is not polled any more

		other, err := localnet.New(localnet.Options{Seed: 7})
		must(t, err)
		defer other.Close()
		r.canister = other.Install(localnet.NewCDK(localnet.CDKOptions{}))
		r.policy.Canisters[r.canister] = struct{}{}
		r.authority, err = verify.NewAuthority(other.RootKey())
		must(t, err)
		transport := other.RoundTripper()
		over.present.Store(&transport)

		o := r.internetIdentity(other.InstallII(), "alice")
		refused := 0
		for ; refused < 20; refused++ { // a page that connects again
			if c, err = client.Dial(t.Context(), r.url, o); err == nil {
				break
			}
			time.Sleep(time.Second)
		}
		if refused == 0 || refused > 5 {
			t.Fatalf("%d attempts were refused, the last with %v", refused, err)
		}
		defer c.Close()
		r.echo(c, "hello again")
	})
}
