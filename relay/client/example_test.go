package client_test

import (
	"context"
	"errors"
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
)

// gateway serves a network's canisters at the address that it returns, until it is stopped.
func gateway(network *localnet.Network) (address string, stop func()) {
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	host, err := url.Parse(boundary)
	if err != nil {
		log.Fatal(err)
	}
	key, err := identity.NewRandomEd25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	g, err := relay.New(relay.Config{Hosts: []*url.URL{host}, RootKey: network.RootKey(), Identity: key})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ticket, err := g.Reserve(&relay.Policy{AnyCanister: true}, netip.Addr{})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		ws, err := relay.Upgrader().Upgrade(w, r, nil)
		if err != nil {
			ticket.Release()
			return
		}
		ticket.Serve(r.Context(), ws)
	}))
	return strings.Replace(server.URL, "http", "ws", 1), func() {
		g.Drain(context.Background(), relay.Draining)
		server.Close()
	}
}

// A session from its opening to its end. Against mainnet, Options need no RootKey.
func ExampleDial() {
	network, err := localnet.New(localnet.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer network.Close()
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{})) // sends back what it gets
	address, stop := gateway(network)
	defer stop()

	ctx := context.Background()
	c, err := client.Dial(ctx, address, client.Options{Canister: canister, RootKey: network.RootKey()})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Send(ctx, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	m, err := c.Receive(ctx) // what it returns is certified
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", m.Payload)

	if err := c.Close(); err != nil {
		log.Fatal(err)
	}
	_, err = c.Receive(ctx)
	var closed *client.CloseError
	fmt.Println(errors.As(err, &closed), closed.Code)
	// Output:
	// hello
	// true 1000
}
