package relay_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/relay/client"
	"github.com/icws-gateway/caddy-icws/verify"
)

// endpoint is an HTTP handler that hands WebSocket connections to a gateway.
type endpoint struct {
	gateway *relay.Gateway
	policy  *relay.Policy
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A place first: while there is none, the refusal can still be an HTTP answer.
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		http.Error(w, "no client address", http.StatusInternalServerError)
		return
	}
	ticket, err := e.gateway.Reserve(e.policy, addr.Addr())
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ws, err := relay.Upgrader().Upgrade(w, r, nil)
	if err != nil {
		ticket.Release()
		return
	}
	ticket.Heed(r.URL)
	ticket.Serve(r.Context(), ws) // returns at once; the gateway has the connection now
}

// A gateway in a plain HTTP server. The network is a local one here, in the same process; with mainnet, RootKey is
// verify.MainnetRootKey() and Hosts is https://icp-api.io.
func ExampleGateway() {
	network, err := localnet.New(localnet.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer network.Close()
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{}))
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	host, err := url.Parse(boundary)
	if err != nil {
		log.Fatal(err)
	}

	key, err := identity.NewRandomEd25519Identity() // keep it: canisters have a queue for each gateway principal
	if err != nil {
		log.Fatal(err)
	}
	gateway, err := relay.New(relay.Config{Hosts: []*url.URL{host}, RootKey: network.RootKey(), Identity: key})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(&endpoint{gateway, &relay.Policy{Canisters: map[verify.Principal]struct{}{canister: {}}}})
	defer server.Close()

	ctx := context.Background()
	c, err := client.Dial(ctx, strings.Replace(server.URL, "http", "ws", 1), client.Options{Canister: canister, RootKey: network.RootKey()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("one gateway:", c.Gateway() == gateway.Principal())
	fmt.Println("sessions:", len(gateway.Sessions()))

	gateway.Drain(ctx, relay.Draining) // asks clients to go elsewhere, tells the canister, and returns when all is done
	_, err = c.Receive(ctx)
	fmt.Println(err)
	// Output:
	// one gateway: true
	// sessions: 1
	// session closed by the other side: 1001 gateway is shutting down, reconnect
}
