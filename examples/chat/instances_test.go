//go:build e2e

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/chat/room"
	"github.com/icws-gateway/caddy-icws/examples/internal/bundle"
	"github.com/icws-gateway/caddy-icws/examples/internal/chromium"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// TestBrowserTwoInstances has one person open the page at two gateways that know nothing of each other: each has its own
// identity, and so its own queue at the canister.
func TestBrowserTwoInstances(t *testing.T) {
	dist, err := bundle.Page(t.Context(), "web", "chat.js", "../../client/src/*")
	if err != nil {
		t.Fatal(err)
	}
	network, err := localnet.New(localnet.Options{Latency: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	canister := network.Install(localnet.NewCDK(localnet.CDKOptions{
		App: room.Room{}, AckInterval: 20 * time.Second, KeepAliveTimeout: 15 * time.Second,
	})).String()
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var ports [2]int
	var sites [2]string
	for i := range ports {
		if ports[i], err = site.ClaimPort(0); err != nil {
			t.Fatal(err)
		}
		text := caddyfile(ports[i], pageConfig{Canister: canister}, boundary, network.RootKey(), dist)
		sites[i] = strings.Replace(text, "drain_timeout", fmt.Sprintf("identity instance-%d\n\t\t\tdrain_timeout", i), 1)
	}
	rootCert, err := site.Run(t.Context(), site.Options{Dir: t.TempDir(), Port: ports[0], Caddyfile: sites[0] + sites[1]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	chromium.Run(t, "web/instances.test.mjs", 1, rootCert,
		fmt.Sprintf("ICWS_FIRST=https://localhost:%d", ports[0]), fmt.Sprintf("ICWS_SECOND=https://localhost:%d", ports[1]))
}
