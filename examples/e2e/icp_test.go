//go:build e2e && linux && amd64

package e2e

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/icws-gateway/caddy-icws/examples/localnet"
)

// TestICP has icp-cli, whose agent is the Rust one, talk to the local network: what that network writes is read by a client
// that nobody here has written, and what the README says of `icp network status` is true.
func TestICP(t *testing.T) {
	installNodeModules(t, ".")
	binary, err := filepath.Abs("node_modules/@icp-sdk/icp-cli-linux-x64/bin/icp")
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]localnet.Options{"delegated": {}, "root subnet": {NoDelegation: true}} {
		t.Run(name, func(t *testing.T) {
			network, boundary := localNetwork(t, o)
			canister := network.Install(localnet.NewCDK(localnet.CDKOptions{})).String()
			dir := t.TempDir()
			icp := func(args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), binary, args...)
				cmd.Dir = dir
				// A home of its own, no telemetry, no look for updates.
				cmd.Env = []string{"HOME=" + dir, "ICP_HOME=" + filepath.Join(dir, "icp"), "DO_NOT_TRACK=1", "ICP_TELEMETRY_DISABLED=1", "CI=true"}
				var stdout, stderr strings.Builder
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Run(); err != nil {
					t.Fatalf("icp %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
				}
				return stdout.String()
			}
			project := fmt.Sprintf("networks:\n  - name: test\n    mode: connected\n    url: %s\n    root-key: fetch\n", boundary)
			if err := os.WriteFile(filepath.Join(dir, "icp.yaml"), []byte(project), 0o600); err != nil {
				t.Fatal(err)
			}
			icp("settings", "update-check", "disabled")

			var status struct {
				API string `json:"api_url"`
				Key string `json:"root_key"`
			}
			if out := icp("network", "status", "test", "--json"); json.Unmarshal([]byte(out), &status) != nil {
				t.Fatalf("status %q", out)
			}
			if strings.TrimSuffix(status.API, "/") != boundary || status.Key != hex.EncodeToString(network.RootKey()) {
				t.Errorf("status %+v", status)
			}
			on := []string{"--network", boundary, "--root-key", status.Key, canister}
			if out := icp(append([]string{"canister", "metadata"}, append(on, "candid:service")...)...); !strings.Contains(out, "ws_get_messages") {
				t.Errorf("metadata %q", out)
			}
			call := func(method, arg string, more ...string) string {
				t.Helper()
				return icp(append(append([]string{"canister", "call"}, more...), append(on, method, arg)...)...)
			}
			if out := call("ws_get_messages", "(record { nonce = 0 : nat64 })", "--query"); !strings.Contains(out, "is_end_of_queue = true") {
				t.Errorf("query %q", out)
			}
			icp("identity", "new", "tester", "--storage", "plaintext")
			open := fmt.Sprintf("(record { client_nonce = 7 : nat64; gateway_principal = principal %q })", canister)
			if out := call("ws_open", open, "--identity", "tester"); !strings.Contains(out, "Ok") {
				t.Errorf("ws_open %q", out)
			}
			if out := call("ws_open", open); !strings.Contains(out, "Anonymous") {
				t.Errorf("ws_open of nobody: %q", out)
			}
		})
	}
}
