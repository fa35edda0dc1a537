//go:build e2e

package e2e

import (
	"os/exec"
	"testing"
	"time"

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
	for _, file := range []string{"unit", "rules", "api"} {
		runNodeTests(t, clientDir, "test/"+file+".test.mjs", nil, "")
	}
}

// TestClientPacked has the package of the TypeScript client installed, built and used by fresh projects.
func TestClientPacked(t *testing.T) {
	installNodeModules(t, clientDir)
	runNodeTests(t, clientDir, "test/pack.test.mjs", nil, "")
}

// TestClient runs the tests of the TypeScript client that need a gateway, against a real Caddy, on each version of its peer.
func TestClient(t *testing.T) {
	buildClient(t)
	network, boundary := localNetwork(t, localnet.Options{Latency: 100 * time.Millisecond})
	c := newControls(t, network)
	s := stack{
		Network:    boundary,
		Control:    c.url,
		Canister:   c.install(localnet.CDKOptions{App: localnet.PingPong{Quiet: true}}),
		Greeter:    c.install(localnet.CDKOptions{App: localnet.PingPong{}}),
		NotAllowed: c.install(localnet.CDKOptions{}),
		Eager:      c.install(eager()),
		EagerMS:    eagerInterval.Milliseconds(),
	}
	var rootCert string
	s.Gateway, rootCert = serve(t, network, boundary, s.Canister, s.Greeter, s.Eager)
	for _, core := range []string{"@icp-sdk/core", "core5"} {
		t.Run(core, func(t *testing.T) {
			t.Setenv("ICWS_CORE", core)
			t.Setenv("NODE_OPTIONS", "--import ./test/core.mjs")
			runNodeTests(t, clientDir, "test/session.test.mjs", s, rootCert)
		})
	}
}
