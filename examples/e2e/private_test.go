//go:build e2e

package e2e

import (
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/icws-gateway/caddy-icws/examples/canisters/ic0"
	"github.com/icws-gateway/caddy-icws/examples/freeport"
	"github.com/icws-gateway/caddy-icws/examples/internal/site"
	"github.com/icws-gateway/caddy-icws/examples/localnet"
	"github.com/icws-gateway/caddy-icws/examples/private-chat/room"
)

// privateStack is what the tests in private.test.mjs are told in ICWS_E2E.
type privateStack struct {
	Gateway   string            `json:"gateway"`
	Network   string            `json:"network"`
	MasterKey string            `json:"masterKey"` // of the network, in hexadecimal
	Canisters map[string]string `json:"canisters"` // the private chat, by what it is made of
}

// TestPrivateRooms runs the tests of private.test.mjs, each as a subtest.
func TestPrivateRooms(t *testing.T) {
	installNodeModules(t, ".")
	const wasm = "../private-chat/canister/target/wasm32-unknown-unknown/release/private_chat.wasm"
	module, err := os.ReadFile(wasm)
	if err != nil {
		t.Fatalf("%v: run `cargo build --release --target wasm32-unknown-unknown` in examples/private-chat/canister", err)
	}
	compiled, err := ic0.Load(module)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { compiled.Close() })
	network, err := localnet.New(localnet.Options{Latency: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	boundary, err := network.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := privateStack{
		Network: boundary, MasterKey: hex.EncodeToString(network.VetKDPublicKey(room.KeyName)),
		Canisters: map[string]string{"Go": network.Install(room.New()).String(), "Rust": network.Install(compiled).String()},
	}
	port := freeport.ForTest(t)
	s.Gateway = fmt.Sprintf("wss://localhost:%d/ws", port)
	rootCert, err := site.Run(t.Context(), site.Options{Dir: t.TempDir(), Port: port, Caddyfile: fmt.Sprintf(`
		https://localhost:%d {
			bind 127.0.0.1
			icws /ws %s %s {
				network %s
				root_key %x
				drain_timeout 1s
			}
		}`, port, s.Canisters["Go"], s.Canisters["Rust"], s.Network, network.RootKey())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.Stop(); err != nil {
			t.Error(err)
		}
	})
	runNodeTests(t, ".", "private.test.mjs", s, rootCert)
}
