package caddymodule

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/aviate-labs/agent-go/identity"

	"github.com/icws-gateway/caddy-icws/relay"
	"github.com/icws-gateway/caddy-icws/verify"
)

// control is a gateway for one canister of the world without Caddy around it, which no reload touches: what its clients
// wait for is the machine, and tells by how much others may be late. It returns the URL for sessions.
func (w *world) control(t testing.TB, canister int) string {
	t.Helper()
	host, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.NewRandomEd25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := relay.New(relay.Config{Hosts: []*url.URL{host}, RootKey: w.net.RootKey(), Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	policy := &relay.Policy{Canisters: map[verify.Principal]struct{}{w.canisters[canister]: {}}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		from, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			t.Error(err)
			return
		}
		ticket, err := gateway.Reserve(policy, from.Addr())
		if err != nil {
			t.Error(err)
			return
		}
		ws, err := relay.Upgrader().Upgrade(rw, r, nil)
		if err != nil {
			ticket.Release()
			return
		}
		ticket.Serve(context.WithoutCancel(r.Context()), ws)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := gateway.Close(); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return strings.Replace(server.URL, "http", "ws", 1)
}
