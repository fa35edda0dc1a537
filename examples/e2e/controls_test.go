//go:build e2e

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/verify"
)

// controls answers what the tests ask about the canisters and the network, and
// plays Internet Identity.
type controls struct {
	url       string
	network   *localnet.Network
	canisters map[string]*localnet.CDK
	ii        *localnet.II
	users     atomic.Int64

	mu    sync.Mutex
	calls map[string]int // update calls that have reached the network, by sender
}

// newControls answers until the end of the test.
func newControls(t *testing.T, network *localnet.Network) *controls {
	c := &controls{network: network, canisters: map[string]*localnet.CDK{}, ii: network.InstallII(localnet.OnSubnet(1))} // as the real one
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

func (c *controls) install(o localnet.CDKOptions) string {
	cdk := localnet.NewCDK(o)
	id := c.network.Install(cdk).String()
	c.canisters[id] = cdk
	return id
}

func (c *controls) count(r *localnet.Request) localnet.Fault {
	if r.Endpoint == "call" {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.calls == nil {
			c.calls = map[string]int{}
		}
		c.calls[r.Sender.String()]++
	}
	return localnet.Fault{}
}

func (c *controls) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) {
		if err := json.NewEncoder(w).Encode(v); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	switch r.URL.Path {
	case "/clients": // of a canister: principal to the sequence number expected next
		clients := map[string]uint64{}
		for _, client := range c.canisters[r.URL.Query().Get("canister")].Clients() {
			clients[client.Key.Principal.String()] = client.Incoming
		}
		answer(clients)
	case "/calls": // of a sender
		c.mu.Lock()
		defer c.mu.Unlock()
		answer(c.calls[r.URL.Query().Get("sender")])
	case "/delegate":
		request := struct {
			SessionKey string
			Seconds    int // until the delegation expires
		}{Seconds: 3600}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		session, err := hex.DecodeString(request.SessionKey)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		user := fmt.Sprintf("user %d", c.users.Add(1))
		root, d := c.ii.Delegate(user, session, c.network.Now().Add(time.Duration(request.Seconds)*time.Second))
		answer(delegationJSON(root, d))
	default:
		http.NotFound(w, r)
	}
}

// delegationJSON is the form that DelegationChain.fromJSON of @dfinity/identity
// reads: bytes and the expiration in hexadecimal.
func delegationJSON(root []byte, d verify.SignedDelegation) any {
	return map[string]any{
		"publicKey": hex.EncodeToString(root),
		"delegations": []any{map[string]any{
			"delegation": map[string]string{
				"pubkey":     hex.EncodeToString(d.PublicKey),
				"expiration": fmt.Sprintf("%x", d.Expiration.UnixNano()),
			},
			"signature": hex.EncodeToString(d.Signature),
		}},
	}
}
