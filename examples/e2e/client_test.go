//go:build e2e

package e2e

import (
	"fmt"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// clientDir is the package of the TypeScript client.
const clientDir = "../client"

// buildClient compiles the client.
func buildClient(t *testing.T) {
	t.Helper()
	installNodeModules(t, clientDir)
	build := exec.CommandContext(t.Context(), "npm", "run", "build")
	build.Dir = clientDir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("npm run build: %v\n%s", err, out)
	}
}

// TestClientRules runs the tests of the TypeScript client that need no gateway.
func TestClientRules(t *testing.T) {
	buildClient(t)
	runNodeTests(t, clientDir, "test/unit.test.mjs", nil, "")
}

// TestClient runs the tests of the TypeScript client that need a gateway, against a real Caddy, on each version of its peer.
func TestClient(t *testing.T) {
	buildClient(t)
	network, err := localnet.New(localnet.Options{Latency: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &controls{network: network, canisters: map[string]*localnet.CDK{}}
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := stack{
		Network:    boundary,
		Canister:   c.install(localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}),
		Greeter:    c.install(localnet.CDKOptions{App: localnet.PingPong{}}),
		NotAllowed: c.install(localnet.CDKOptions{}),
		// An acknowledgement within a test, and a keep-alive that is not late on a busy machine.
		Eager: c.install(localnet.CDKOptions{
			App: localnet.PingPong{Quiet: true}, AckInterval: 3 * eagerInterval, KeepAliveTimeout: 3*eagerInterval - time.Second,
		}),
		EagerMS: 3 * eagerInterval.Milliseconds(),
	}
	control := httptest.NewServer(c)
	t.Cleanup(control.Close)
	s.Control = control.URL
	port := freeport.ForTest(t)
	s.Gateway = fmt.Sprintf("wss://localhost:%d/ws", port)
	rootCert, err := site.Run(t.Context(), site.Options{Dir: t.TempDir(), Port: port, Caddyfile: fmt.Sprintf(`
		https://localhost:%d {
			bind 127.0.0.1
			icws /ws %s %s %s {
				network %s
				root_key %x
				drain_timeout 1s
			}
		}`, port, s.Canister, s.Greeter, s.Eager, s.Network, network.RootKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, core := range []string{"@icp-sdk/core", "core5"} {
		t.Run(core, func(t *testing.T) {
			t.Setenv("ICWS_CORE", core)
			t.Setenv("NODE_OPTIONS", "--import ./test/core.mjs")
			runNodeTests(t, clientDir, "test/session.test.mjs", s, rootCert)
		})
	}
}
