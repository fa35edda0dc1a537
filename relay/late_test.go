package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// internetIdentity makes the options of a client that has logged in with Internet Identity.
func (r *rig) internetIdentity(ii *localnet.II, user string) client.Options {
	r.t.Helper()
	session, err := identity.NewRandomEd25519Identity()
	if err != nil {
		r.t.Fatal(err)
	}
	o := r.options()
	o.Identity = session
	root, delegation := ii.Delegate(user, session.PublicKey(), time.Now().Add(time.Hour))
	o.SenderKey, o.Delegations = root, []verify.SignedDelegation{delegation}
	return o
}

// Until the root key has been fetched, a canister signature cannot be checked. Its session is let in when the canister has
// accepted it: by a certified outcome, or by a check that has become possible where the network certifies no outcomes.
func TestFirstSessionBeforeTheRootKeyIsKnown(t *testing.T) {
	t.Parallel()
	for _, v2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v2only=%v", v2), func(t *testing.T) {
			inBubble(t, rigOptions{
				network: localnet.Options{V2Only: v2, Latency: time.Second},
				config:  func(c *relay.Config) { c.RootKey, c.FetchRootKey = nil, true },
			}, func(t *testing.T, r *rig) {
				c, err := client.Dial(t.Context(), r.url, r.internetIdentity(r.network.InstallII(), "alice"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				r.echo(c, "hi")
			})
		})
	}
}

// A node that takes any call, and pretends to have only the endpoint that certifies no outcome, opens the way to nobody.
func TestForgedSignatureBeforeTheRootKeyIsKnown(t *testing.T) {
	inBubble(t, rigOptions{
		config: func(c *relay.Config) { c.RootKey, c.FetchRootKey = nil, true },
	}, func(t *testing.T, r *rig) {
		r.network.SetFaults(func(q *localnet.Request) (f localnet.Fault) {
			switch {
			case q.Endpoint != "call":
			case q.Version == "v2":
				f.Status = 202
			default:
				f.Status = 404
			}
			return f
		})
		o := r.internetIdentity(r.network.InstallII(), "victim")
		o.Delegations[0].Signature[len(o.Delegations[0].Signature)-1] ^= 1
		raw := r.openingRaw(o)
		if ce := readClose(t, raw); ce.Code != 1008 || !strings.Contains(ce.Text, "ws_open: ") {
			t.Errorf("closed with %d %q, want 1008 and what is wrong with the sender", ce.Code, ce.Text)
		}
	})
}
