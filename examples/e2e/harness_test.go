//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// localNetwork runs a network until the end of the test. boundary is the URL of its boundary node.
func localNetwork(t *testing.T, o localnet.Options) (network *localnet.Network, boundary string) {
	t.Helper()
	network, err := localnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	if boundary, err = network.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return network, boundary
}

// compiled loads what cargo has made of the crate in a directory.
func compiled(t *testing.T, crate, wasm string) *ic0.Canister {
	t.Helper()
	module, err := os.ReadFile(filepath.Join(crate, "target/wasm32-unknown-unknown/release", wasm))
	if err != nil {
		t.Fatalf("%v: run `cargo build --release --target wasm32-unknown-unknown` in %s", err, crate)
	}
	canister, err := ic0.Load(module)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { canister.Close() })
	return canister
}

// serve runs a Caddy until the end of the test. It returns the wss URL of its gateway for these canisters, and the file of the root
// certificate.
func serve(t *testing.T, network *localnet.Network, boundary string, canisters ...string) (url, rootCert string) {
	t.Helper()
	port := freeport.ForTest(t)
	rootCert, err := site.Run(t.Context(), site.Options{Dir: t.TempDir(), Port: port, Caddyfile: fmt.Sprintf(`
		https://localhost:%d {
			bind 127.0.0.1
			icws /ws %s {
				network %s
				root_key %x
				drain_timeout 1s
			}
		}`, port, strings.Join(canisters, " "), boundary, network.RootKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("wss://localhost:%d/ws", port), rootCert
}

// installNodeModules fetches what package-lock.json pins unless it is there.
func installNodeModules(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err == nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-fund", "--no-audit")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// runNodeTests runs a test file and reports each of its tests as a subtest, so
// that one that did not run is missed here too.
func runNodeTests(t *testing.T, dir, file string, s any, rootCert string) {
	t.Helper()
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "--test", "--test-force-exit", "--test-reporter=tap", file)
	cmd.Dir = dir
	// The certificate is verified, against Caddy's own root in addition to the usual ones.
	cmd.Env = append(os.Environ(), "ICWS_E2E="+string(config), "NODE_EXTRA_CA_CERTS="+rootCert)
	out, err := cmd.CombinedOutput()
	results := 0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		rest, isBad := strings.CutPrefix(line, "not ")
		rest, isResult := strings.CutPrefix(rest, "ok ")
		_, name, _ := strings.Cut(rest, " - ")
		if !isResult {
			continue
		}
		if strings.HasSuffix(name, ".mjs") {
			continue // the file as a whole
		}
		results++
		t.Run(name, func(t *testing.T) {
			if isBad {
				t.Error("failed, see the output of Node")
			}
			if strings.Contains(name, "# SKIP") {
				t.Error("skipped")
			}
		})
	}
	if err != nil || t.Failed() {
		t.Errorf("node: %v\n%s", err, out)
	}
	if results == 0 {
		t.Errorf("no test ran\n%s", out)
	}
}
